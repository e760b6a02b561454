//! The keys of a client, and the headers that carry them: one for the workspace, one for what belongs to the organization.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::key_use::{Fingerprint, Key, Kind};

use super::{Auth, Error, Settings};

/// The headers that carry the keys, marked as sensitive.
#[derive(Debug)]
pub(super) struct Keys {
    workspace: Carried,
    organization: Option<Carried>,
    /// To be blotted out wherever they are echoed.
    pub(super) secrets: Secrets,
}

/// What no error may show. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Secrets(Arc<[SecretString]>);

/// A key: what may be shown of it, and the header that carries it.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) key: Key,
    pub(super) header: (HeaderName, HeaderValue),
}

impl Keys {
    /// # Errors
    /// [`Error::Settings`] where a key is none.
    pub(super) fn new(account: &str, settings: &Settings) -> Result<Self, Error> {
        let Settings { key, admin_key, auth, .. } = settings;
        if key.expose_secret().is_empty() {
            return Err(Error::Settings("the API key is empty"));
        }
        let admin = match admin_key {
            Some(key) if key.expose_secret().is_empty() => {
                return Err(Error::Settings("the Admin key is empty"));
            }
            Some(key) => {
                let header = header(*auth, key, "the Admin key has characters that no header can carry")?;
                Some(Carried { key: named(account, Kind::Admin, key), header })
            }
            None => None,
        };
        let workspace = header(*auth, key, "the API key has characters that no header can carry")?;
        Ok(Self {
            workspace: Carried { key: named(account, Kind::Api, key), header: workspace },
            organization: admin,
            secrets: Secrets::of([key].into_iter().chain(admin_key)),
        })
    }

    /// The key for a URL.
    ///
    /// # Errors
    /// [`Error::NoAdminKey`]
    pub(super) fn key_for(&self, is_of_organization: bool) -> Result<&Carried, Error> {
        if is_of_organization {
            self.organization.as_ref().ok_or(Error::NoAdminKey)
        } else {
            Ok(&self.workspace)
        }
    }
}

/// The keys of an account, by what may be shown of them.
pub(super) fn keys_of(account: &str, settings: &Settings) -> impl Iterator<Item = Key> {
    let admin = settings.admin_key.as_ref().map(|key| named(account, Kind::Admin, key));
    [named(account, Kind::Api, &settings.key)].into_iter().chain(admin)
}

fn named(account: &str, kind: Kind, key: &SecretString) -> Key {
    let fingerprint = Fingerprint::of_text(key.expose_secret().as_bytes());
    Key { kind, party: account.to_owned(), fingerprint }
}

fn header(auth: Auth, key: &SecretString, fault: &'static str) -> Result<(HeaderName, HeaderValue), Error> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::Settings(fault));
    let (name, mut value) = match auth {
        Auth::XApiKey => (HeaderName::from_static("x-api-key"), value(key.expose_secret())?),
        Auth::Bearer => (AUTHORIZATION, value(&format!("Bearer {}", key.expose_secret()))?),
    };
    value.set_sensitive(true);
    Ok((name, value))
}

impl Secrets {
    pub(super) fn of<'a>(keys: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut keys: Vec<SecretString> = keys.into_iter().cloned().collect();
        // The longer first: one may be the beginning of another, and would leave its end standing.
        keys.sort_by_key(|key| std::cmp::Reverse(key.expose_secret().len()));
        Self(keys.into())
    }

    /// The text without them.
    pub(super) fn blotted_out(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, key| text.replace(key.expose_secret(), "[key]"))
    }
}

/// Is a URL below `/v1/organizations/`, seen from the base? What is there, the API shows to Admin keys only.
pub(super) fn is_of_organization(base_url: &Url, url: &Url) -> bool {
    fn segments(url: &Url) -> impl Iterator<Item = &str> {
        url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty())
    }
    let mut path = segments(url);
    segments(base_url).all(|segment| path.next() == Some(segment))
        && path.next() == Some("v1")
        && path.next() == Some("organizations")
        && path.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_the_organizations_is_known_by_its_path_behind_the_base() {
        let asked = |base: &str, url: &str| is_of_organization(&base.parse().unwrap(), &url.parse().unwrap());
        let gateway = "https://g.example/claude/";
        assert!(asked("https://a.example", "https://a.example/v1/organizations/external_keys/k?x=1"));
        assert!(asked("https://a.example", "https://a.example//v1//organizations/a%2Fb"));
        assert!(asked(gateway, "https://g.example/claude/v1/organizations/me"));
        for url in
            ["/v1/organizations/me", "/claude/v1/organizations", "/claude/v1/organizations/", "/claude"]
        {
            assert!(!asked(gateway, &format!("https://g.example{url}")), "{url}");
        }
        assert!(!asked("https://a.example", "https://a.example/v1/sessions/organizations/x"));
        assert!(!asked("https://a.example", "https://a.example/v1/sessions?/v1/organizations/x"));
    }

    #[test]
    fn a_key_that_begins_as_another_does_leaves_nothing_of_that_standing() {
        let secrets = Secrets::of([&"sk-a".into(), &"sk-a-admin".into()]);

        assert_eq!(secrets.blotted_out("sk-a-admin, sk-a"), "[key], [key]");
    }
}
