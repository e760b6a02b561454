//! Further workspaces beside the first, each with an API key, objects, faults and webhooks of its own.

use std::str::FromStr;

use secrecy::SecretString;

/// A workspace, as `--workspace` describes it.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// A part of its id, `wrkspc_01NAME`.
    pub name: String,
    /// The key whose requests it answers.
    pub api_key: SecretString,
    /// Where its webhooks go, and the key that signs them.
    pub webhooks: Option<(String, SecretString)>,
}

impl FromStr for Workspace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = "expected NAME:API_KEY or NAME:API_KEY:WEBHOOK_URL:SIGNING_KEY";
        let (name, rest) = text.split_once(':').ok_or(fault)?;
        // Of the colons behind the key, all but the last belong to the URL.
        let (api_key, webhooks) = match rest.split_once(':') {
            Some((api_key, webhooks)) => (api_key, Some(webhooks.rsplit_once(':').ok_or(fault)?)),
            None => (rest, None),
        };
        if name.is_empty() || api_key.is_empty() {
            return Err(fault);
        }
        let webhooks = match webhooks {
            Some((url, signing_key)) if url.contains("://") && signing_key.starts_with("whsec_") => {
                Some((url.to_owned(), signing_key.into()))
            }
            Some(_) => {
                return Err("expected a URL and a signing key that begins with whsec_ behind the API key");
            }
            None => None,
        };
        Ok(Self { name: name.to_owned(), api_key: api_key.into(), webhooks })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_workspace_is_read_with_or_without_its_webhooks() {
        let Workspace { name, api_key, webhooks } = "staging:sk-b".parse().unwrap();
        assert_eq!((name.as_str(), api_key.expose_secret(), webhooks.is_none()), ("staging", "sk-b", true));

        let text = "staging:sk-b:http://127.0.0.1:8080/webhooks/staging:whsec_YQ==";
        let (url, signing_key) = text.parse::<Workspace>().unwrap().webhooks.unwrap();
        assert_eq!(url, "http://127.0.0.1:8080/webhooks/staging");
        assert_eq!(signing_key.expose_secret(), "whsec_YQ==");
    }

    #[test]
    fn what_is_no_workspace_is_refused() {
        for text in ["", "staging", "staging:", ":sk-b", "a:b:whsec_x", "a:b:http://x", "a:b:http://x:80/y"] {
            assert!(text.parse::<Workspace>().is_err(), "{text}");
        }
    }
}
