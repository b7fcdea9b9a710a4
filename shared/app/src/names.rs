//! Names that callers choose, checked before they become keys.

/// Whether `name` is a DNS label of at most `limit` characters; the error says what would be right.
pub(crate) fn check_label(name: &str, limit: usize) -> Result<(), String> {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    let good = bytes.len() <= limit
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if good {
        Ok(())
    } else {
        Err(format!(
            "'{}' is not a name: expected 1 to {limit} lower-case letters, digits and -, beginning and ending with a letter or digit",
            shown(name)
        ))
    }
}

/// A text as error messages may repeat it: short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether `url` is an absolute `http` or `https` URL with a host and without user info.
pub(crate) fn is_http_url(url: &str) -> bool {
    let Some(rest) = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
    else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !authority.is_empty()
        && !authority.contains('@')
        && url.len() <= 2048
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "a-b", "0", &"a".repeat(40)] {
            assert!(check_label(good, 40).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a/b", &"a".repeat(41)] {
            assert!(check_label(bad, 40).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls() {
        assert!(is_http_url("https://apps.example.com/base"));
        for bad in [
            "ftp://x",
            "https://",
            "https://u:p@x/",
            "apps",
            "https:///x",
            "http://a b",
        ] {
            assert!(!is_http_url(bad), "{bad}");
        }
    }
}
