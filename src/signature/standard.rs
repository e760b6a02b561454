//! The scheme of Standard Webhooks: three headers, and a list of signatures in base64.

use axum::http::HeaderMap;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretSlice;

use crate::key_use::Fingerprint;

use super::{Rejection, Verified, fresh, must_be_on, must_match, once, sole, values};

/// How many signatures of one header are compared. Two are enough for a rotation; the rest of a longer list is
/// ignored, so that a list costs at most this many comparisons per key.
pub const SIGNATURES_MAX: usize = 16;

/// What the three headers are called; each name but the first is read where those before it are absent.
pub(super) struct Names {
    id: &'static [&'static str],
    timestamp: &'static [&'static str],
    pub(super) signature: &'static [&'static str],
}

/// The names of the specification, and those that some gateways make of them.
pub(super) const WEBHOOK: Names = Names {
    id: &["webhook-id", "x-webhook-id"],
    timestamp: &["webhook-timestamp", "x-webhook-timestamp"],
    signature: &["webhook-signature", "x-webhook-signature"],
};

/// The names from before the specification, which senders behind Svix still use.
pub(super) const SVIX: Names =
    Names { id: &["svix-id"], timestamp: &["svix-timestamp"], signature: &["svix-signature"] };

/// Checks a delivery under Standard Webhooks with those of `keys` that are not empty.
pub(super) fn verify(
    keys: &[SecretSlice<u8>],
    names: &Names,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verified, Rejection> {
    must_be_on(keys)?;
    let id = sole(headers, names.id)?;
    let sent_at = once(sole(headers, names.timestamp)?);
    let lists = values(headers, names.signature)?;

    // With a dot in the identifier it would be unclear where it ends and the timestamp begins.
    if id.contains('.') {
        return Err(Rejection::Malformed);
    }
    let timestamp = fresh(sent_at, now)?;
    let signatures = listed_signatures(&lists);
    let verified = |id: &str| {
        let signed = [id.as_bytes(), b".", sent_at.as_bytes(), b".", body];
        let fits = must_match(keys, &signed, &signatures)?.into_iter().map(Fingerprint::of).collect();
        Ok(Verified { webhook_id: Some(id.to_owned()), timestamp, fits })
    };
    // An identifier may contain a comma itself. The signature shows which reading is right.
    match once(id) {
        same if same == id => verified(id),
        single => verified(id).or_else(|_| verified(single)),
    }
}

/// The first [`SIGNATURES_MAX`] well-formed `v1` signatures of the lists. Other versions and malformed entries are
/// skipped: a sender may add kinds that we do not know to the one that we know.
///
/// Entries are separated by spaces; where a proxy has joined several headers into one, also by commas.
fn listed_signatures(lists: &[&str]) -> Vec<[u8; 32]> {
    let words = lists.iter().flat_map(|list| list.split_ascii_whitespace());
    let entries = words.flat_map(|word| {
        let parts = word.split(',');
        parts.clone().zip(parts.skip(1))
    });
    entries
        .filter(|(version, _)| *version == "v1")
        .filter_map(|(_, text)| BASE64.decode(text).ok()?.try_into().ok())
        .take(SIGNATURES_MAX)
        .collect()
}

/// The standard alphabet, with or without padding, and without stray bits in the last character.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::SIGNATURES_MAX;
    use crate::signature::tests::{BODY, ID, NOW, SENT_AT, WITH_A, WITH_B, headers, only_a, sign, standard};
    use crate::signature::{Rejection, verify};

    #[test]
    fn one_valid_signature_in_a_list_is_enough() {
        let unpadded = WITH_A.trim_end_matches('=');
        let crowd = vec!["v1,!!!"; 1000].join(" ");
        for list in [
            unpadded.to_owned(),
            format!("v1a,AAAA {WITH_A}"),
            format!("v2,c1RBmP+c nocomma , v1, {WITH_A} v1,@@@@"),
            format!("  {WITH_A}  "),
            format!("{crowd} {WITH_A}"),
            format!("{} {WITH_A}", vec![WITH_B; SIGNATURES_MAX - 1].join(" ")),
            // Joined by a proxy.
            format!("{WITH_B}, {WITH_A}"),
            format!("{WITH_B},{WITH_A}"),
            format!("{WITH_A} , {WITH_B}"),
            format!("v1a,AAAA,{WITH_A},"),
            format!("{WITH_B}\t{WITH_A}"),
            format!("{WITH_A}, {WITH_A}"),
        ] {
            assert!(verify(&only_a(), &standard(ID, SENT_AT, &list), BODY, NOW).is_ok(), "{list}");
        }
        for no_list in [WITH_A.replace(',', " "), WITH_A.replace(',', ", "), WITH_A.replace(',', ",,")] {
            let refused = verify(&only_a(), &standard(ID, SENT_AT, &no_list), BODY, NOW);
            assert_eq!(refused, Err(Rejection::Mismatch), "{no_list}");
        }
        let late = format!("{} {WITH_A}", vec![WITH_B; SIGNATURES_MAX].join(" "));
        assert_eq!(
            verify(&only_a(), &standard(ID, SENT_AT, &late), BODY, NOW),
            Err(Rejection::Mismatch),
            "past the signatures that are looked at"
        );
    }

    #[test]
    fn an_alias_is_read_only_where_its_header_is_absent() {
        let all = [("x-webhook-id", ID), ("x-webhook-timestamp", SENT_AT), ("x-webhook-signature", WITH_A)];
        assert!(verify(&only_a(), &headers(&all), BODY, NOW).is_ok());
        let one = [("webhook-id", ID), ("webhook-timestamp", SENT_AT), ("x-webhook-signature", WITH_A)];
        assert!(verify(&only_a(), &headers(&one), BODY, NOW).is_ok());

        let mut shadowed = standard(ID, SENT_AT, WITH_B);
        shadowed.insert("x-webhook-signature", HeaderValue::from_static(WITH_A));
        assert_eq!(verify(&only_a(), &shadowed, BODY, NOW), Err(Rejection::Mismatch));

        let svix = [("svix-id", ID), ("svix-timestamp", SENT_AT), ("svix-signature", WITH_A)];
        assert_eq!(verify(&only_a(), &headers(&svix), BODY, NOW), Err(Rejection::Missing));
    }

    #[test]
    fn an_identifier_with_a_dot_is_refused_though_it_is_signed() {
        let signature = sign("whe_1.2", SENT_AT, BODY);
        let refused = verify(&only_a(), &standard("whe_1.2", SENT_AT, &signature), BODY, NOW);
        assert_eq!(refused, Err(Rejection::Malformed));
    }
}
