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

/// As [`check_label`], and not in the form of an id: what is named that way could not be found by its name.
pub(crate) fn check_name(name: &str, limit: usize) -> Result<(), String> {
    check_label(name, limit)?;
    match name.parse::<uuid::Uuid>() {
        Ok(_) => Err(format!("'{name}' looks like an id; choose a name that does not")),
        Err(_) => Ok(()),
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
    fn a_name_is_no_id() {
        assert!(check_name("agent-00000000", 40).is_ok());
        assert!(check_name("8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b", 40).is_err());
        assert!(check_name("8f14e45fceea467fa0e62f6f0f1f4a1b", 40).is_err());
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
