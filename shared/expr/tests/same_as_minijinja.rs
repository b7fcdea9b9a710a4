//! Random expressions give what `minijinja` itself gives for them, wherever both give a value.
//!
//! Ours refuses more, on purpose. The generator leaves out what differs on purpose: lists as text, `tojson`, `bool`,
//! booleans as numbers, and the order of values that have none.

use minijinja::{Environment, UndefinedBehavior};
use serde::Deserialize as _;
use serde_json::{Value, json};
use slipway_expr::{Context, Limits, Scope, Template};

/// A small generator with a fixed sequence for each seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

fn integer(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return random
            .pick(&[
                "0",
                "1",
                "-7",
                "3",
                "12",
                "parameters.n",
                "parameters.list[1]",
                "parameters.map.a",
            ])
            .to_owned();
    }
    match random.below(8) {
        0..=2 => {
            let operator = random.pick(&["+", "-", "*", "//", "%"]);
            format!(
                "({} {operator} {})",
                integer(random, depth - 1),
                integer(random, depth - 1)
            )
        }
        3 => format!("-{}", integer(random, depth - 1)),
        4 => format!(
            "({} | length)",
            if random.below(2) == 0 {
                text(random, depth - 1)
            } else {
                list(random, depth - 1)
            }
        ),
        5 => format!(
            "({} | {})",
            list(random, depth - 1),
            random.pick(&["sum", "min", "max", "first", "last"])
        ),
        6 => format!(
            "({} | {})",
            integer(random, depth - 1),
            random.pick(&["abs", "int", "default(5)"])
        ),
        _ => choice(random, depth, integer),
    }
}

fn text(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return random
            .pick(&[
                "'a'",
                "'Bc d'",
                "''",
                "' x '",
                "'äÖ'",
                "parameters.s",
                "parameters.map['key']",
            ])
            .to_owned();
    }
    match random.below(8) {
        0 => format!("({} ~ {})", text(random, depth - 1), text(random, depth - 1)),
        1 => format!("({} ~ {})", text(random, depth - 1), integer(random, depth - 1)),
        2 => format!("({} + {})", text(random, depth - 1), text(random, depth - 1)),
        3 => format!(
            "({} | {})",
            text(random, depth - 1),
            random.pick(&["upper", "lower", "capitalize", "trim", "reverse", "string"])
        ),
        4 => format!(
            "({} | replace({}, {}))",
            text(random, depth - 1),
            text(random, depth - 1),
            text(random, depth - 1)
        ),
        5 => format!("{}[{}]", text(random, depth - 1), range(random)),
        6 => format!("({} | default('d', true))", text(random, depth - 1)),
        _ => choice(random, depth, text),
    }
}

fn list(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return random
            .pick(&["[]", "[3, 1, 2, 1]", "parameters.list", "[parameters.n]"])
            .to_owned();
    }
    match random.below(6) {
        0 => format!("[{}, {}]", integer(random, depth - 1), integer(random, depth - 1)),
        1 => format!("({} + {})", list(random, depth - 1), list(random, depth - 1)),
        2 => format!(
            "({} | {})",
            list(random, depth - 1),
            random.pick(&["sort", "unique", "reverse", "list", "sort(reverse=true)"])
        ),
        3 => format!("{}[{}]", list(random, depth - 1), range(random)),
        4 => format!("({} | default([]))", list(random, depth - 1)),
        _ => choice(random, depth, list),
    }
}

fn boolean(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return random
            .pick(&[
                "true",
                "false",
                "parameters.missing is defined",
                "parameters.n is odd",
            ])
            .to_owned();
    }
    match random.below(9) {
        0 => format!("(not {})", boolean(random, depth - 1)),
        1 => format!(
            "({} {} {})",
            boolean(random, depth - 1),
            random.pick(&["and", "or"]),
            boolean(random, depth - 1)
        ),
        2 => format!(
            "({} {} {})",
            integer(random, depth - 1),
            random.pick(&["==", "!=", "<", "<=", ">", ">="]),
            integer(random, depth - 1)
        ),
        3 => format!(
            "({} {} {})",
            text(random, depth - 1),
            random.pick(&["==", "!=", "<", "<=", ">", ">="]),
            text(random, depth - 1)
        ),
        4 => format!(
            "({} {} {})",
            integer(random, depth - 1),
            random.pick(&["in", "not in"]),
            list(random, depth - 1)
        ),
        5 => format!(
            "({} {} {})",
            text(random, depth - 1),
            random.pick(&["in", "not in"]),
            text(random, depth - 1)
        ),
        6 => format!(
            "({} < {} <= {})",
            integer(random, depth - 1),
            integer(random, depth - 1),
            integer(random, depth - 1)
        ),
        7 => format!(
            "({} is {})",
            integer(random, depth - 1),
            random.pick(&["odd", "even", "number", "integer", "string", "none"])
        ),
        _ => choice(random, depth, boolean),
    }
}

fn choice(random: &mut Random, depth: usize, of: fn(&mut Random, usize) -> String) -> String {
    format!(
        "({} if {} else {})",
        of(random, depth - 1),
        boolean(random, depth - 1),
        of(random, depth - 1)
    )
}

/// Never backwards: `minijinja` itself panics on `''[::-1]`.
fn range(random: &mut Random) -> String {
    const BOUNDS: &[&str] = &["", "0", "1", "2", "-1", "-2", "9", "-9"];
    match random.below(3) {
        0 => random.pick(&["::2", "::3", ":"]).to_owned(),
        1 => format!("{}:{}", random.pick(BOUNDS), random.pick(BOUNDS)),
        _ => format!("{}:{}:2", random.pick(BOUNDS), random.pick(BOUNDS)),
    }
}

#[test]
fn the_same_values_come_out() {
    let values = json!({
        "n": 5, "s": "Hello World", "list": [4, 2, 9, 2], "map": {"a": 11, "key": "val"}
    });
    let context = Context::new().parameters(values.as_object().expect("it is an object"));
    let theirs = minijinja::Value::deserialize(json!({"parameters": values})).expect("JSON fits");
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let (mut compared, mut stricter) = (0, 0);
    for seed in 1..=20_000u64 {
        let mut random = Random(seed);
        let depth = 1 + random.below(4);
        let kind = random.below(4);
        let source = [integer, text, list, boolean][kind](&mut random, depth);
        let Ok(template) = Template::parse(&format!("{{{{ {source} }}}}"), Scope::VALUES) else {
            continue;
        };
        let reference = environment
            .compile_expression(&source)
            .and_then(|expression| expression.eval(theirs.clone()))
            .and_then(|value| {
                serde_json::to_value(value).map_err(|_| minijinja::ErrorKind::BadSerialization.into())
            });
        match (template.render(&context, Limits::default()), reference) {
            (Ok(ours), Ok(reference)) => {
                assert_eq!(ours, reference, "seed {seed}: {source}");
                compared += 1;
            }
            (Ok(ours), Err(error)) => {
                panic!("seed {seed}: {source} gives {ours}, theirs refuses it: {error}")
            }
            (Err(_), Ok(Value::Null)) | (Err(_), Err(_)) => {}
            (Err(error), Ok(reference)) => {
                stricter += 1;
                assert!(
                    stricter < 100,
                    "seed {seed}: {source} gives {reference}, ours refuses it: {error}"
                );
            }
        }
    }
    assert!(
        compared > 15_000,
        "only {compared} expressions gave a value on both sides"
    );
}
