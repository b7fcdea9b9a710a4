//! Expressions that ask for too much, and random ones.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use slipway_expr::{Context, Limits, Path, RenderError, Scope, Template, render_value};

fn parameters() -> Map<String, Value> {
    json!({"s": "text", "n": 7, "big": "x".repeat(1 << 20), "list": vec!["item"; 10_000], "f": 1.5})
        .as_object()
        .cloned()
        .expect("it is an object")
}

fn render(text: &str, parameters: &Map<String, Value>) -> Result<Value, RenderError> {
    let context = Context::new().parameters(parameters);
    let limits = Limits::default();
    Template::parse(text, Scope::VALUES)
        .expect("it parses")
        .render(&context, limits)
}

#[test]
fn what_asks_for_gigabytes_is_refused_quickly() {
    let parameters = parameters();
    let table = [
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * 'x' }}",
        "{{ parameters.s * 18446744073709551615 }}",
        "{{ ('x' * 1000000 * 1000000) | length }}",
        "{{ 'x' * 4000000 ~ 'x' * 4000000 ~ 'x' * 4000000 }}",
        "{{ ('x' * 100000) | replace('', 'x' * 100000) }}",
        "{{ ('x' * 100000) | replace('x', 'x' * 100000) | length }}",
        "{{ parameters.list | join('x' * 100000) }}",
        "{{ (parameters.big | list) | length }}",
        "{{ ('x ' * 1000000) | split | length }}",
        "{{ [parameters.big, parameters.big, parameters.big, parameters.big, parameters.big, parameters.big, parameters.big, parameters.big] }}",
        "{{ (parameters.big ~ parameters.big ~ parameters.big ~ parameters.big) | tojson }}",
        "{{ parameters.big | urlencode | urlencode | urlencode }}",
        "{{ parameters.big[:] ~ parameters.big[:] ~ parameters.big[:] ~ parameters.big[:] }}",
        "{{ (parameters.list + parameters.list + parameters.list + parameters.list + parameters.list) | tojson }}",
        "{{ parameters.big }}",
        "a{{ parameters.big }}",
        "{{ 'x' * 300000 }}",
    ];
    for text in table {
        let begin = Instant::now();
        let error = render(text, &parameters).expect_err(text);
        assert!(
            matches!(
                error,
                RenderError::OutOfMemory { .. } | RenderError::OutputTooLong { .. }
            ),
            "{text}: {error}"
        );
        assert!(begin.elapsed() < Duration::from_secs(5), "{text}");
    }
    for text in [
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ 2 ** 64 * 2 ** 64 }}",
        "{{ 1.5 ** 99999 }}",
        "{{ -9223372036854775808 - 1 }}",
    ] {
        assert!(
            matches!(render(text, &parameters), Err(RenderError::Number { .. })),
            "{text}"
        );
    }
}

#[test]
fn looking_at_much_costs_fuel() {
    let parameters = parameters();
    let chain = vec!["parameters.big == parameters.big"; 40].join(" and ");
    let text = format!("{{{{ {chain} }}}}");
    assert_eq!(render(&text, &parameters), Ok(json!(true)), "forty looks are few");
    let many = (0..300).map(|_| text.as_str()).collect::<String>();
    let many = &many[..many.len().min(60_000)];
    let whole = &many[..many.rfind("}}").expect("there is an end") + 2];
    let error = render(whole, &parameters).expect_err("that is too much");
    assert!(
        matches!(error, RenderError::OutOfFuel { limit: 1_000_000 }),
        "{error}"
    );

    let context = Context::new().parameters(&parameters);
    let template = Template::parse("{{ 1 + 1 + 1 }}", Scope::VALUES).expect("it parses");
    let few = Limits {
        fuel: 3,
        ..Limits::default()
    };
    assert_eq!(
        template.render(&context, few),
        Err(RenderError::OutOfFuel { limit: 3 })
    );
}

#[test]
fn the_limits_hold_for_all_strings_of_a_value_together() {
    let parameters = json!({"s": "x".repeat(200_000)});
    let context = Context::new().parameters(parameters.as_object().expect("it is an object"));
    let values = json!(vec!["{{ parameters.s }}"; 10_000]);
    let error = render_value(&values, &Path::root(), Scope::VALUES, &context, Limits::default())
        .expect_err("two gigabytes are too much");
    assert!(
        error.to_string().contains("needs more than 8388608 bytes"),
        "{error}"
    );
    assert!(
        render_value(
            &json!(vec!["{{ parameters.s }}"; 20]),
            &Path::root(),
            Scope::VALUES,
            &context,
            Limits::default()
        )
        .is_ok()
    );
}

/// A small generator with a fixed sequence for each seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{{-",
    "-}}",
    "parameters",
    "steps",
    "secrets",
    "deployment",
    "selections",
    ".",
    ".x",
    ".outputs",
    ".name",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "'",
    "\"",
    "'a'",
    "\"b\"",
    "0",
    "1",
    "-1",
    "1.5",
    "99999999999",
    "18446744073709551616",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "~",
    "|",
    "default",
    "upper",
    "int",
    "join",
    "sort",
    "first",
    " is ",
    "defined",
    "odd",
    " in ",
    " not ",
    " and ",
    " or ",
    " if ",
    " else ",
    ",",
    ":",
    "=",
    "==",
    "<",
    ">=",
    "true",
    "none",
    " ",
    "\n",
    "\\",
    "\\x",
    "ü",
    "🦀",
    "\u{0}",
    "$",
    "raw",
    "endraw",
    "for",
    "parameters.s",
    "parameters.list",
    "steps.a.outputs.b",
    "| length",
    "[0]",
    "[-1]",
    "[1:]",
    "[::-1]",
    "()",
    "#",
];

#[test]
fn random_text_never_panics() {
    let parameters = parameters();
    let outputs = json!({"b": [1, "two", null]});
    let context = Context::new()
        .parameters(&parameters)
        .step("a", outputs.as_object())
        .secrets(&parameters);
    let limits = Limits {
        fuel: 20_000,
        memory: 64 << 10,
        output: 4 << 10,
    };
    let mut parsed = 0;
    for seed in 1..=20_000u64 {
        let mut random = Random(seed);
        let mut text = String::new();
        for _ in 0..random.below(30) {
            text.push_str(random.pick(PIECES));
        }
        for text in [text.clone(), format!("{{{{ {text} }}}}")] {
            if let Ok(template) = Template::parse(&text, Scope::VALUES) {
                parsed += 1;
                if let Ok(Value::String(out)) = template.render(&context, limits) {
                    assert!(out.len() <= limits.output, "{text:?}");
                }
            }
            if let Ok(condition) = slipway_expr::Expression::parse(&text, Scope::VALUES) {
                let _ = condition.evaluate(&context, limits);
            }
        }
    }
    assert!(parsed > 500, "only {parsed} texts parsed, so little was tried");
}

/// A random expression that follows the grammar.
fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.below(6) == 0 {
        return random
            .pick(&[
                "1",
                "0",
                "-3",
                "2.5",
                "'a'",
                "'Bc d'",
                "''",
                "true",
                "false",
                "none",
                "[]",
                "[1, 2]",
                "{'k': 'v'}",
                "parameters.s",
                "parameters.n",
                "parameters.f",
                "parameters.list[2]",
                "parameters.missing",
                "steps.a.outputs.b",
                "secrets.s",
            ])
            .to_owned();
    }
    let mut inner = || expression(random, depth - 1);
    let (a, b, c) = (inner(), inner(), inner());
    match random.below(12) {
        0 => format!(
            "({a} {} {b})",
            random.pick(&["+", "-", "*", "/", "//", "%", "**", "~"])
        ),
        1 => format!(
            "({a} {} {b})",
            random.pick(&["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
        ),
        2 => format!("({a} {} {b})", random.pick(&["and", "or"])),
        3 => format!("({a} if {b} else {c})"),
        4 => format!("(not {a})"),
        5 => format!("(-{a})"),
        6 => format!(
            "({a} | {})",
            random.pick(&[
                "upper",
                "length",
                "string",
                "int",
                "list",
                "first",
                "tojson",
                "sort",
                "unique",
                "reverse",
                "sum",
                "b64encode",
                "b64decode",
                "title",
                "round",
                "abs",
                "bool",
                "urlencode",
                "split",
                "join(',')",
                "trim",
                "float(0)",
                "max",
                "last"
            ])
        ),
        7 => format!("({a} | default({b}))"),
        8 => format!("({a} | replace({b}, {c}))"),
        9 => format!(
            "({a} is {})",
            random.pick(&[
                "defined",
                "undefined",
                "none",
                "odd",
                "string",
                "number",
                "mapping"
            ])
        ),
        10 => format!("[{a}, {b}][{c}]"),
        _ => format!("{{'k': {a}}}[{b}:{c}]"),
    }
}

#[test]
fn random_expressions_stay_within_their_limits() {
    let parameters = parameters();
    let outputs = json!({"b": [1, "two", null]});
    let context = Context::new()
        .parameters(&parameters)
        .step("a", outputs.as_object())
        .secrets(&parameters);
    let limits = Limits {
        fuel: 20_000,
        memory: 256 << 10,
        output: 4 << 10,
    };
    let (mut parsed, mut rendered) = (0, 0);
    for seed in 1..=20_000u64 {
        let mut random = Random(seed);
        let depth = 1 + random.below(4);
        let text = format!("{{{{ {} }}}}", expression(&mut random, depth));
        let Ok(template) = Template::parse(&text, Scope::VALUES) else {
            continue;
        };
        parsed += 1;
        let first = template.render(&context, limits);
        assert_eq!(
            first,
            template.render(&context, limits),
            "the same each time: {text}"
        );
        match first {
            Ok(Value::String(out)) => assert!(out.len() <= limits.output, "{text}"),
            Ok(_) => rendered += 1,
            Err(RenderError::Undefined { path }) if path.starts_with("parameters.missing") => {
                let read = template
                    .references()
                    .iter()
                    .find(|read| read.reference.to_string() == "parameters.missing");
                assert!(
                    read.is_some_and(|read| !read.optional),
                    "its absence was foreseen: {text}"
                );
            }
            Err(_) => {}
        }
    }
    assert!(
        parsed > 10_000 && rendered > 1_000,
        "{parsed} parsed, {rendered} rendered"
    );
}
