//! Random bodies: nothing panics, and nothing is lost.

use proptest::prelude::*;

use super::super::*;
use super::SENT_AT;

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,8}|[\\x00-\\xff]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::vec(("\\PC{0,3}", inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn sound_json_is_mended_to_itself(json in any_json(), pretty in any::<bool>()) {
        let text = if pretty { format!("{json:#}") } else { json.to_string() };
        prop_assert_eq!(&mend::mended(&text, &[]), &text);
    }

    #[test]
    fn whatever_is_mended_reads_as_it_read_before(json in any_json(), other in any_json(), at in any::<prop::sample::Index>()) {
        // A member twice somewhere, or a cut: text of any kind comes out as text.
        let text = format!(r#"{{"x":{other},"a":{json},"x":{json},"a":{other}}}"#);
        let mended = mend::mended(&text, &["b"]);
        let expected = format!(r#"{{"x":{json},"a":{other}}}"#);
        prop_assert_eq!(&mended, &expected);
        let cut = at.index(text.len());
        if text.is_char_boundary(cut) {
            let _still_text = mend::mended(&text[..cut], &["x"]);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_kept(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(event) = read(&body, None, 0) {
            prop_assert_eq!(event.body.as_bytes(), &body[..]);
        }
    }

    #[test]
    fn whatever_stands_in_a_well_formed_envelope_is_stored(
        id in "\\PC{0,20}|[\\x00-\\xff]{0,20}",
        kind in "\\PC{1,20}|[\\x00-\\xff]{1,20}",
        webhook_id in proptest::option::of("\\PC{0,700}"),
        mutated in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let text = serde_json::json!({
            "type": "event", "id": id, "created_at": id, "data": {"type": kind, "id": id, "workspace_id": id},
        }).to_string();
        let event = read(text.as_bytes(), webhook_id.as_deref(), SENT_AT).unwrap();
        for kept in [Some(&event.event_id), Some(&event.event_type), event.key.as_ref(), event.workspace_id.as_ref()]
            .into_iter().flatten()
        {
            prop_assert!(!kept.is_empty() && !kept.contains('\0') && kept.len() <= TEXT_BYTES_MAX);
        }

        let mut bytes = text.into_bytes();
        let at = mutated.index(bytes.len());
        bytes[at] = byte;
        if let Ok(event) = read(&bytes, webhook_id.as_deref(), SENT_AT) {
            prop_assert_eq!(event.body.as_bytes(), &bytes[..]);
        }
    }
}
