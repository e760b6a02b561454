//! Forms: what was sent, and whether it was sent from the page itself.
//!
//! A form carries a token that only this process can make, for the person who got the form. Browsers say of each request whether it
//! comes from the same site, and from which one; what comes from elsewhere is refused even with a token.

use std::collections::HashMap;

use axum::http::{HeaderMap, HeaderName, header};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::gate::Person;

/// What a form or the query of an address says. Of a field given twice the last counts.
#[derive(Debug, Default)]
pub(super) struct Fields(HashMap<String, String>);

impl Fields {
    pub(super) fn read(encoded: &str) -> Self {
        Self(url::form_urlencoded::parse(encoded.as_bytes()).into_owned().collect())
    }

    /// The value of a field without blanks around it; empty if it is not there. Postgres takes no NUL in a text.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.contains('\0')).unwrap_or_default()
    }
}

/// Makes the tokens of forms.
pub(super) struct Tokens(Hmac<Sha256>);

/// Why a form is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Another site sent it.
    Site,
    /// Its token is not of this process, or not for this person.
    Token,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self(Hmac::new(&rand::random::<[u8; 64]>().into()))
    }

    pub(super) fn of(&self, person: &Person) -> String {
        hex::encode(self.mac(person).finalize().into_bytes())
    }

    fn mac(&self, Person(name): &Person) -> Hmac<Sha256> {
        self.0.clone().chain_update(name.as_deref().unwrap_or_default())
    }

    /// Whether a form comes from the page, for this person.
    pub(super) fn check(&self, person: &Person, headers: &HeaderMap, fields: &Fields) -> Result<(), Foreign> {
        if !is_same_site(headers) {
            return Err(Foreign::Site);
        }
        let given = hex::decode(fields.get("token")).unwrap_or_default();
        self.mac(person).verify_slice(&given).map_err(|_| Foreign::Token)
    }
}

/// What the browser says of where a request comes from. A program that says nothing needs the token as well.
fn is_same_site(headers: &HeaderMap) -> bool {
    let of = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    match of(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin",
        // An older browser: then the origin has to be the host that was asked for.
        None => of(header::ORIGIN).is_none_or(|origin| {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == of(header::HOST)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(headers: &[(&'static str, &str)]) -> HeaderMap {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn a_form_is_taken_from_the_page_for_its_person_and_from_nowhere_else() {
        let tokens = Tokens::new();
        let ada = Person(Some("ada".to_owned()));
        let fields = |token: &str| Fields::read(&format!("token={token}&reason=mended"));
        let token = tokens.of(&ada);

        for good in [
            sent(&[
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://ops.example"),
                ("host", "worker:9092"),
            ]),
            sent(&[("origin", "http://worker:9092"), ("host", "worker:9092")]),
            sent(&[("host", "worker:9092")]),
        ] {
            assert_eq!(tokens.check(&ada, &good, &fields(&token)), Ok(()), "{good:?}");
            assert_eq!(tokens.check(&ada, &good, &fields("")), Err(Foreign::Token));
            assert_eq!(tokens.check(&ada, &good, &fields(&tokens.of(&Person(None)))), Err(Foreign::Token));
            assert_eq!(tokens.check(&ada, &good, &fields(&Tokens::new().of(&ada))), Err(Foreign::Token));
        }
        for bad in [
            sent(&[("sec-fetch-site", "cross-site")]),
            sent(&[("sec-fetch-site", "same-site")]),
            sent(&[("sec-fetch-site", "none")]),
            sent(&[("origin", "https://evil.example"), ("host", "worker:9092")]),
            sent(&[("origin", "null"), ("host", "worker:9092")]),
        ] {
            assert_eq!(tokens.check(&ada, &bad, &fields(&token)), Err(Foreign::Site), "{bad:?}");
        }
    }

    #[test]
    fn a_field_is_read_without_blanks_and_never_with_a_nul() {
        let fields = Fields::read("find=+whe_1+&type=a%00b&find2=%C3%A9");
        assert_eq!((fields.get("find"), fields.get("type"), fields.get("find2")), ("whe_1", "", "é"));
        assert_eq!(fields.get("nothing"), "");
    }
}
