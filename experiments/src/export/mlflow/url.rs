//! The address of a server.

use super::transport::TransportError;

/// A parsed `http://HOST[:PORT][/PREFIX]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    /// The host's name or number, without the brackets of IPv6.
    pub(super) host: String,
    /// The port; 80 if there is none.
    pub(super) port: u16,
    /// Host and port as written, for the header `Host`.
    pub(super) authority: String,
    /// What stands before all paths; empty or `/...` without a `/` at its end.
    pub(super) prefix: String,
}

/// The parts of `url`.
///
/// # Errors
///
/// If it is not an `http://` address.
pub(super) fn parse(url: &str) -> Result<Address, TransportError> {
    let wrong = |problem| TransportError::Url {
        url: url.to_owned(),
        problem,
    };
    if url.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(wrong(
            "it has a space, a control character or a non-ASCII character",
        ));
    }
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| wrong("it has no scheme"))?;
    if scheme.eq_ignore_ascii_case("https") {
        let url = url.to_owned();
        return Err(TransportError::Https { url });
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(wrong("its scheme is not http"));
    }
    if rest.contains(['?', '#']) {
        return Err(wrong("it has a query or fragment"));
    }
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(wrong("it has a user name"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .ok_or_else(|| wrong("its `[` is not closed"))?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => 80,
        digits => {
            let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let port = digits.and_then(|digits| digits.parse().ok());
            port.ok_or_else(|| wrong("its port is not a number up to 65535"))?
        }
    };
    Ok(Address {
        host: host.to_owned(),
        port,
        authority: authority.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(url: &str) -> (String, u16, String, String) {
        let address = parse(url).unwrap();
        (
            address.host,
            address.port,
            address.authority,
            address.prefix,
        )
    }

    fn expected(
        host: &str,
        port: u16,
        authority: &str,
        prefix: &str,
    ) -> (String, u16, String, String) {
        (
            host.to_owned(),
            port,
            authority.to_owned(),
            prefix.to_owned(),
        )
    }

    #[test]
    fn reads_addresses() {
        assert_eq!(
            parts("http://localhost"),
            expected("localhost", 80, "localhost", "")
        );
        assert_eq!(
            parts("HTTP://a.b:5000/"),
            expected("a.b", 5000, "a.b:5000", "")
        );
        assert_eq!(
            parts("http://[::1]:5000/ml/flow/"),
            expected("::1", 5000, "[::1]:5000", "/ml/flow")
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |url| parse(url).unwrap_err().to_string();
        assert!(
            error("https://a").starts_with("`https://a` needs https, which kiln does not support")
        );
        for (url, problem) in [
            ("localhost:5000", "no scheme"),
            ("ftp://a", "not http"),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://a:b", "port"),
            ("http://a:70000", "port"),
            ("http://[::1", "`[`"),
            ("http://[::1]x", "port"),
            ("http://me:secret@a", "user name"),
            ("http://a/\r\nX: y", "control character"),
            ("http://a/?b", "query"),
        ] {
            assert!(error(url).contains(problem), "{}", error(url));
        }
    }

    proptest! {
        #[test]
        fn never_panics(url in "(http://)?[a-z:/@\\[\\]0-9?é]{0,20}") {
            let _ = parse(&url);
        }
    }
}
