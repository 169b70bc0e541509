//! Names under which credentials stand.

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A credential.
    Credential,
    /// A credential, unless it is a number: how many tokens there are.
    Token,
    /// Settings, some of which may be credentials.
    ConnectionString,
}

/// The last words of names, in lower case and without what stands between words, by their last letter.
const ENDINGS: [(u8, &[(&str, Named)]); 8] = [
    (
        b'd',
        &[
            ("password", Named::Credential),
            ("passwd", Named::Credential),
            ("pwd", Named::Credential),
            ("accesskeyid", Named::Credential),
        ],
    ),
    (
        b'e',
        &[
            ("cookie", Named::Credential),
            ("passphrase", Named::Credential),
        ],
    ),
    (b'g', &[("connectionstring", Named::ConnectionString)]),
    (b'l', &[("credential", Named::Credential)]),
    (
        b'n',
        &[
            ("authorization", Named::Credential),
            ("token", Named::Token),
            ("dsn", Named::ConnectionString),
        ],
    ),
    (b's', &[("credentials", Named::Credential)]),
    (
        b't',
        &[("secret", Named::Credential), ("jwt", Named::Credential)],
    ),
    (
        b'y',
        &[
            ("apikey", Named::Credential),
            ("accesskey", Named::Credential),
            ("secretkey", Named::Credential),
            ("privatekey", Named::Credential),
            ("accountkey", Named::Credential),
            ("signingkey", Named::Credential),
            ("encryptionkey", Named::Credential),
            ("subscriptionkey", Named::Credential),
            ("functionskey", Named::Credential),
        ],
    ),
];

/// Names that end in another letter than those.
const WHOLE: [(&str, Named); 1] = [("xhoneycombteam", Named::Credential)];

/// The names of parameters that sign a URL. Elsewhere a signature is no credential.
const SIGNATURES: [&str; 4] = ["sig", "signature", "xamzsignature", "xgoogsignature"];

/// Says what stands under a name, such as the key of an attribute.
pub(super) fn name(name: &str) -> Option<Named> {
    let last = letters_from_the_end(name).next()?;
    if let Some((_, endings)) = ENDINGS.iter().find(|(letter, _)| *letter == last) {
        let found = endings.iter().find(|(ending, _)| ends_in(name, ending));
        return found.map(|(_, named)| *named);
    }
    let found = WHOLE.iter().find(|(ending, _)| ends_in(name, ending));
    found.map(|(_, named)| *named)
}

/// Whether the value of a parameter with this name is a credential.
pub(super) fn is_secret_parameter(parameter: &str) -> bool {
    let is_signature = || {
        SIGNATURES
            .iter()
            .any(|signature| letters_from_the_end(parameter).eq(signature.bytes().rev()))
    };
    matches!(name(parameter), Some(Named::Credential | Named::Token)) || is_signature()
}

fn ends_in(name: &str, ending: &str) -> bool {
    let mut letters = letters_from_the_end(name);
    ending
        .bytes()
        .rev()
        .all(|letter| letters.next() == Some(letter))
}

/// The letters and digits in lower case, the last one first.
fn letters_from_the_end(name: &str) -> impl Iterator<Item = u8> + '_ {
    let letters = name.bytes().rev().filter(u8::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_however_they_are_written() {
        for key in [
            "http.request.header.authorization",
            "http.request.header.Proxy-Authorization",
            "rpc.grpc.request.metadata.authorization",
            "http.request.header.cookie",
            "http.response.header.set-cookie",
            "http.request.header.set_cookie",
            "user.password",
            "dbPassword",
            "DB_PASSWORD",
            "user.passwd",
            "ssh.key.passphrase",
            "db.pwd",
            "client_secret",
            "aws.credentials",
            "http.request.header.x-api-key",
            "apiKey",
            "AWS_SECRET_ACCESS_KEY",
            "aws.access_key_id",
            "azure.storage.AccountKey",
            "ocp-apim-subscription-key",
            "x-functions-key",
            "http.request.header.x-honeycomb-team",
            "id.jwt",
        ] {
            assert_eq!(name(key), Some(Named::Credential), "{key}");
        }
        for key in ["token", "access_token", "x-amz-security-token", "csrfToken"] {
            assert_eq!(name(key), Some(Named::Token), "{key}");
        }
        for key in ["db.connection_string", "sentry.dsn", "ConnectionString"] {
            assert_eq!(name(key), Some(Named::ConnectionString), "{key}");
        }
    }

    /// Keys of the semantic conventions that a careless rule would hit.
    #[test]
    fn other_keys_are_left_alone() {
        for key in [
            "",
            "...",
            "gen_ai.usage.input_tokens",
            "messaging.kafka.message.key",
            "session.id",
            "user.id",
            "code.function.signature",
            "http.request.header.www-authenticate",
            "aws.dynamodb.table_names",
            "tls.client.certificate",
            "db.query.text",
            "password.attempts",
            "enduser.scope",
            "sekret",
            "token_type",
            "cookie.count",
            "cl\u{e9}",
        ] {
            assert_eq!(name(key), None, "{key}");
        }
    }

    #[test]
    fn what_signs_a_url_is_a_secret_there() {
        for parameter in [
            "sig",
            "Signature",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "AWSAccessKeyId",
        ] {
            assert!(is_secret_parameter(parameter), "{parameter}");
        }
        for parameter in ["q", "", "config", "design", "X-Amz-Date", "code.signature"] {
            assert!(!is_secret_parameter(parameter), "{parameter}");
        }
    }
}
