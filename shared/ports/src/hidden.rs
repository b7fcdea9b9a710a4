//! Texts that nobody may be told, and where they stand in others.

use std::fmt::Write as _;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretString};

/// What stands for a secret.
pub const HIDDEN: &str = "(hidden)";

/// A shorter secret stands in many words by chance.
const SHORTEST: usize = 4;

/// A shorter line of a longer secret is hidden only with the whole.
const SHORTEST_LINE: usize = 12;

/// Fewer characters of base64 say too little to be looked for where they are a part of more.
const SHORTEST_PART: usize = 8;

/// Characters on a line of base64 where it is broken into lines: as in PEM, and as in MIME.
const LINES: [usize; 2] = [64, 76];

/// Secrets in every notation that they are known to be repeated in: as they are, without the space around them, as in
/// JSON, as in a URL, in base64 of both alphabets, also broken into lines, and, where they have several lines, each line of
/// at least 12 bytes.
///
/// Where a secret is a part of what is in base64, as in `user:password` of an `Authorization` header, what stands for it
/// alone is hidden; a character on either side says two or four bits of its ends.
///
/// A secret of at least 4 bytes is hidden wherever it stands, also within a word. A shorter one is hidden only where it is
/// a word of its own: with no letter, digit or underscore beside it.
#[derive(Debug, Default)]
pub struct Hidden {
    /// Longer ones first, so that one that contains another goes as a whole.
    anywhere: Vec<SecretString>,
    words: Vec<SecretString>,
}

impl Hidden {
    /// Hides these secrets.
    pub fn of<'t>(secrets: impl IntoIterator<Item = &'t str>) -> Self {
        let mut hidden = Self::default();
        for secret in secrets {
            hidden.learn(secret);
        }
        hidden
    }

    /// Hides one more secret.
    pub fn learn(&mut self, secret: &str) {
        let trimmed = secret.trim();
        if trimmed.len() < SHORTEST {
            for form in notations(trimmed) {
                add(&mut self.words, form);
            }
            return;
        }
        let lines = secret.lines().map(str::trim);
        let lines = lines
            .filter(|line| line.len() >= SHORTEST_LINE)
            .map(str::to_owned);
        for form in notations(secret)
            .into_iter()
            .chain(notations(trimmed))
            .chain(lines)
            .chain(parts_of_base64(secret))
            .chain(parts_of_base64(trimmed))
        {
            add(&mut self.anywhere, form);
        }
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.anywhere.is_empty() && self.words.is_empty()
    }

    /// Whether a secret stands in the text, or is all of it.
    pub fn is_in(&self, text: &str) -> bool {
        let mut anywhere = self.anywhere.iter().map(ExposeSecret::expose_secret);
        let mut words = self.words.iter().map(ExposeSecret::expose_secret);
        anywhere.any(|secret| text.contains(secret)) || words.any(|secret| text == secret)
    }

    /// The text without the secrets.
    pub fn hide(&self, text: &str) -> String {
        let anywhere = self.anywhere.iter().map(ExposeSecret::expose_secret);
        let words = self.words.iter().map(ExposeSecret::expose_secret);
        let text = anywhere.fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        words.fold(text, |text, secret| without_word(&text, secret))
    }

    /// As [`hide`](Self::hide), for a text that may end within a secret: at least 8 characters of one at the end are hidden, too.
    pub fn hide_cut(&self, text: &str) -> String {
        let mut text = self.hide(text);
        let longest = self
            .anywhere
            .iter()
            .filter_map(|secret| {
                let secret = secret.expose_secret();
                let ends = secret.char_indices().map(|(end, _)| end).skip(SHORTEST_PART);
                ends.filter(|end| text.ends_with(&secret[..*end])).max()
            })
            .max();
        if let Some(length) = longest {
            text.truncate(text.len() - length);
            text.push_str(HIDDEN);
        }
        text
    }
}

fn add(forms: &mut Vec<SecretString>, form: String) {
    if form.is_empty() || forms.iter().any(|known| known.expose_secret() == form) {
        return;
    }
    let place = forms.partition_point(|known| known.expose_secret().len() >= form.len());
    forms.insert(place, SecretString::from(form));
}

/// A secret as a whole, as it is written in one place or another.
fn notations(secret: &str) -> [String; 7] {
    let escaped = serde_json::Value::from(secret).to_string();
    [
        secret.to_owned(),
        escaped[1..escaped.len() - 1].to_owned(),
        percent_encoded(secret),
        BASE64_STANDARD.encode(secret),
        BASE64_STANDARD_NO_PAD.encode(secret),
        BASE64_URL_SAFE.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
    ]
}

/// What stands for a secret alone where more than it is in base64, or where that is broken into lines.
fn parts_of_base64(secret: &str) -> Vec<String> {
    let mut parts = Vec::new();
    // Three bytes make four characters, so that there are three places where it can begin: after how many bytes, and the
    // first character to which none of those contributes.
    for (before, first) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = [&[0; 2][..before], secret.as_bytes()].concat();
        let last = bytes.len() * 8 / 6;
        for alphabet in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            parts.push(alphabet.encode(&bytes)[first..last].to_owned());
        }
    }
    let whole = BASE64_STANDARD.encode(secret);
    for width in LINES {
        if whole.len() > width {
            let lines = whole.as_bytes().chunks(width);
            parts.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
    }
    parts.retain(|part| part.len() >= SHORTEST_PART);
    parts
}

/// The text without a secret where that is a word of its own.
fn without_word(text: &str, secret: &str) -> String {
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (start, found) in text.match_indices(secret) {
        let end = start + found.len();
        let is_word = !text[..start].ends_with(goes_on) && !text[end..].starts_with(goes_on);
        if is_word {
            out.push_str(&text[copied..start]);
            out.push_str(HIDDEN);
            copied = end;
        }
    }
    out.push_str(&text[copied..]);
    out
}

/// Words that stand everywhere, and that expressions give as answers.
const PLAIN: [&str; 4] = ["true", "false", "null", "none"];

/// Whether a text that was made of a secret says enough of it to be hidden wherever it stands.
pub fn says_enough(text: &str) -> bool {
    let text = text.trim();
    text.len() >= SHORTEST && !PLAIN.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Text as it may stand in a path or a query of a URL.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "-----BEGIN KEY-----\nabcdefghijklmnop\n  qrstuvwxyz0123456\nshort\n-----END KEY-----\n";

    #[test]
    fn every_notation_of_a_secret_is_hidden() {
        let hidden = Hidden::of(["p?~>w\"ö/22"]);
        // Written by other programs.
        for (notation, form) in [
            ("as it is", "p?~>w\"ö/22"),
            ("JSON", r#"p?~>w\"ö/22"#),
            ("URL", "p%3F~%3Ew%22%C3%B6%2F22"),
            ("base64", "cD9+Pnciw7YvMjI="),
            ("base64 for URLs", "cD9-Pnciw7YvMjI="),
            ("base64 without padding", "cD9+Pnciw7YvMjI"),
        ] {
            assert_eq!(hidden.hide(&format!("x{form}y")), "x(hidden)y", "{notation}");
            assert!(hidden.is_in(form), "{notation}");
        }
        assert_eq!(hidden.hide("what is no secret"), "what is no secret");
    }

    #[test]
    fn a_secret_that_is_a_part_of_base64_is_hidden_there() {
        let hidden = Hidden::of(["correct horse"]);
        // `printf 'me:correct horse' | base64`, and so on.
        for (said, left) in [
            ("Basic bWU6Y29ycmVjdCBob3JzZQ==", "Basic bWU6(hidden)"),
            ("Basic eW91OmNvcnJlY3QgaG9yc2U=", "Basic eW91Om(hidden)U="),
            ("Basic dGhleTpjb3JyZWN0IGhvcnNl", "Basic dGhleTp(hidden)"),
            ("Basic bWU6Y29ycmVjdCBob3JzZSBub3c=", "Basic bWU6(hidden)SBub3c="),
        ] {
            assert_eq!(hidden.hide(said), left);
        }
    }

    #[test]
    fn base64_that_is_broken_into_lines_is_hidden_line_by_line() {
        let key = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let hidden = Hidden::of([key]);
        let whole = BASE64_STANDARD.encode(key);
        for width in [64, 76] {
            let (first, second) = whole.split_at(width);
            let said = format!("key: |\n  {first}\n  {second}\n");
            assert_eq!(hidden.hide(&said), "key: |\n  (hidden)\n  (hidden)\n");
        }
    }

    #[test]
    fn each_line_that_matters_of_a_secret_is_hidden_by_itself() {
        let hidden = Hidden::of([KEY]);
        let said = "loaded abcdefghijklmnop, then qrstuvwxyz0123456, in short";
        assert_eq!(hidden.hide(said), "loaded (hidden), then (hidden), in short");
        assert_eq!(hidden.hide(&format!("key={KEY}.")), "key=(hidden).");
        let packed = BASE64_STANDARD.encode(KEY);
        assert_eq!(hidden.hide(&format!("tls.key: {packed}")), "tls.key: (hidden)");
        let stripped = BASE64_STANDARD.encode(KEY.trim());
        assert_eq!(hidden.hide(&stripped), HIDDEN);
    }

    #[test]
    fn a_short_secret_is_hidden_as_a_word_and_in_no_other() {
        let hidden = Hidden::of(["abc"]);
        assert_eq!(hidden.hide("abc, \"abc\"=abc"), "(hidden), \"(hidden)\"=(hidden)");
        let others = "abcd cabc x_abc abc1 ABC";
        assert_eq!(hidden.hide(others), others);
        assert_eq!(hidden.hide("data: YWJj"), "data: (hidden)");
        assert!(hidden.is_in("abc") && !hidden.is_in("abcd"));
        let longer = Hidden::of(["abcd"]);
        assert_eq!(longer.hide("xabcdx"), "x(hidden)x");
    }

    #[test]
    fn a_text_that_ends_within_a_secret_ends_before_it() {
        let hidden = Hidden::of(["correct horse battery"]);
        assert_eq!(hidden.hide_cut("it is correct horse b"), "it is (hidden)");
        assert_eq!(hidden.hide_cut("it is Y29ycmVjdCBo"), "it is (hidden)");
        assert_eq!(hidden.hide_cut("it is correct horse battery"), "it is (hidden)");
        assert_eq!(hidden.hide_cut("correct horse b, so"), "correct horse b, so");
        assert_eq!(
            hidden.hide_cut("it is correct"),
            "it is correct",
            "so little says nothing"
        );
    }

    #[test]
    fn short_texts_and_plain_words_say_too_little() {
        for text in ["", "abc", " 42 ", "true", "False", "null"] {
            assert!(!says_enough(text), "{text}");
        }
        assert!(says_enough("abcd") && says_enough("trueish"));
    }

    #[test]
    fn a_secret_that_contains_another_goes_as_a_whole() {
        for secrets in [["secret", "secret-two"], ["secret-two", "secret"]] {
            let hidden = Hidden::of(secrets);
            assert_eq!(hidden.hide("secret-two and secret"), "(hidden) and (hidden)");
        }
        assert!(Hidden::of(["", " \n"]).is_empty(), "nothing is no secret");
    }
}
