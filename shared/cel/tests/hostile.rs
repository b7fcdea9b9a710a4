//! Expressions that would take for ever, fill the memory or overflow the stack.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_cel::Expression;

fn object() -> Value {
    json!({"status": {"list": vec![json!({"a": "x".repeat(100)}); 300], "text": "x".repeat(10_000)}})
}

/// What came of it, as words, on a stack as small as a worker thread may have.
fn outcome(text: String) -> String {
    let began = Instant::now();
    let judge = move || match Expression::parse(&text) {
        Err(error) => format!("refused: {error}"),
        Ok(parsed) => match parsed.is_true(&object()) {
            Ok(truth) => truth.to_string(),
            Err(error) => format!("error: {error}"),
        },
    };
    let said = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(judge)
        .unwrap()
        .join()
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{said} after {:?}",
        began.elapsed()
    );
    said
}

#[test]
fn work_is_limited() {
    let nested = "status.list.all(a, status.list.all(b, status.list.all(c, status.list.all(d, true))))";
    assert!(outcome(nested.to_owned()).contains("more work than is allowed"));
    let hidden = format!("({nested}) || true");
    assert!(
        outcome(hidden).contains("more work"),
        "the limit is the end of all"
    );
    let doubled = format!("size(['x']{}) == 0", ".map(a, a + a)".repeat(60));
    assert!(outcome(doubled).contains("bytes of text"));
    let lists = format!("size([[1]]{}) == 0", ".map(a, a + a)".repeat(60));
    assert!(outcome(lists).contains("more work"));
    let pattern = "status.list.all(a, status.text.matches('(x+x+)+y') == false)";
    assert!(outcome(pattern.to_owned()).contains("more work"));
    let large = "status.text.matches('((((x{100}){100}){100}){100})')";
    assert!(outcome(large.to_owned()).starts_with("error"));
    let equal = "status.list.all(a, status.list == status.list)";
    assert!(outcome(equal.to_owned()).contains("more work"));
}

#[test]
fn large_objects_cost_what_is_looked_at() {
    let object = json!({"status": {
        "few": vec![0; 100], "long": "x".repeat(1 << 20), "other": "x".repeat(1 << 20),
        "many": vec![json!("x".repeat(8)); 200_000], "numbers": vec![0; 200_000]}});
    let judge = |text: &str| Expression::parse(text).unwrap().is_true(&object);
    // What is read of a list is its beginning: to go through it each time would take minutes.
    for text in [
        "status.few.all(a, status.few.all(b, 0 in status.numbers))",
        "status.few.all(a, status.few.all(b, 'xxxxxxxx' in status.many))",
        "status.few.all(a, status.numbers.join() == '' || true)",
        "status.few.all(a, status.long.startsWith('x') && status.long.endsWith('x') && status.long != 'x')",
    ] {
        assert_eq!(judge(text), Ok(true), "{text}");
    }
    for part in [
        "!status.long.contains('y')",
        "status.long.startsWith(status.other)",
        "status.long.endsWith(status.other)",
        "status.long == status.other",
        "status.long <= status.other",
        "status.long in [status.other]",
        "!(status.long in status)",
        "int(status.long) == 0 || true",
    ] {
        let error = judge(&format!("status.few.all(a, {part})")).unwrap_err();
        assert!(error.to_string().contains("more work"), "{part}: {error}");
    }
    for part in ["'y' in status.many", "0 in status.many"] {
        assert!(
            judge(part).unwrap_err().to_string().contains("more work"),
            "{part}"
        );
    }
}

#[test]
fn depth_is_limited() {
    for (open, middle, close) in [
        ("(", "true", ")"),
        ("[", "1", "]"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("true ? ", "true", " : false"),
        ("{'a': ", "1", "}"),
        ("[1].all(x, ", "true", ")"),
        ("size(", "'x'", ")"),
        ("true && (", "true", ")"),
        ("has(a.", "b", ")"),
        ("a[", "0", "]"),
    ] {
        for count in [10, 60, 200, 2040 / (open.len() + close.len())] {
            outcome(format!("{}{middle}{}", open.repeat(count), close.repeat(count)));
            outcome(open.repeat(count));
        }
    }
    for chain in ["true", "1"] {
        for operator in ["&&", "||", "+", "==", "*", "<", ".a", "[0]", "?true:"] {
            outcome(format!("{chain}{}", format!("{operator}{chain}").repeat(300)));
            outcome(format!("a{}", operator.repeat(500)));
        }
    }
    let long = format!("'{}' == ''", "x".repeat(3000));
    assert!(outcome(long).contains("at most 2048"));
}

#[test]
fn bytes_of_any_kind_are_answered() {
    // A fixed generator: the same texts in every run.
    let words = [
        "status", ".", "?", "[", "]", "(", ")", "{", "}", "'", "\"", "\\", "list", "all", "x", ",", "&&",
        "||", "!", "-", "1", "0x", "u", "1e999", "in", "has", "r'", "b'", "'''", "`", "\n", "é", "\u{0}",
        ":", "==", "map", "optional", "none", "//",
    ];
    let mut state = 7_u64;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..(state % 24) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(words[(state >> 33) as usize % words.len()]);
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if let Ok(parsed) = Expression::parse(&text) {
            let _ = parsed.is_true(&object());
        }
    }
}
