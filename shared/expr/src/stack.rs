//! The stack that untrusted expressions are parsed and evaluated on.

/// More than twice the bytes that the deepest expression within the caps needs in an unoptimized build: the tests
/// below run the worst ones on half of it.
const NEEDED: usize = 1 << 20;

/// Runs `work` with at least [`NEEDED`] bytes of stack: on the caller's where that much is left, else on one of
/// its own.
pub(crate) fn on_known_stack<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(NEEDED, 2 * NEEDED, work)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::NEEDED;
    use crate::compile::compile;
    use crate::context::Context;
    use crate::evaluate::Evaluation;
    use crate::meter::{Limits, Meter};
    use crate::reads::reads;
    use crate::scan::{MAX_DEPTH, MAX_EXPRESSION, MAX_NESTING, MAX_TOKENS, check_bare};
    use crate::scope::Scope;

    /// The longest expression of the form that the caps let through.
    fn longest(form: impl Fn(usize) -> String) -> String {
        let fits = |times: &usize| {
            check_bare(&form(*times)).is_ok() && compile(&form(*times), Scope::VALUES).is_ok()
        };
        let times = (0..=MAX_TOKENS)
            .take_while(fits)
            .last()
            .expect("the caps allow something");
        form(times)
    }

    #[test]
    fn the_deepest_expressions_fit_on_half_of_the_stack() {
        let repeated = |begin: &'static str, part: &'static str, end: &'static str| {
            longest(move |times| format!("{begin}{}{end}", part.repeat(times)))
        };
        let around = |open: &'static str, close: &'static str| {
            longest(move |times| format!("{}1{}", open.repeat(times), close.repeat(times)))
        };
        let worst = [
            repeated("1", "+1", ""),
            repeated("1", " ~ 1", ""),
            repeated("1", "**1", ""),
            repeated("1", "<2", ""),
            repeated("1", " and 1", ""),
            repeated("1", " or 1", ""),
            repeated("parameters.x", ".a", ""),
            repeated("parameters.x", "[0]", ""),
            repeated("parameters.x", "[:]", ""),
            repeated("1", "|abs", ""),
            repeated("1", "|default(1)", ""),
            repeated("1", " is number", ""),
            repeated("1", " is not in [1]", ""),
            repeated("", "not ", "1"),
            repeated("", "-", "1"),
            repeated("", "1 if 0 else ", "1"),
            repeated("1", " if 1 else 1", ""),
            repeated("[", "1,", "]"),
            repeated("'a'", " 'a'", ""),
            around("(", ")"),
            around("[", "]"),
            around("{'a':", "}"),
            around("(0 or ", ")"),
            around("(0 + 1 * ", ")"),
            around("(1 if 0 else ", ")"),
            around("1|default(", ")"),
            around("parameters.x[", "]"),
            around("not (", ")"),
            around("not -(", ")"),
            around("---(", ")"),
            around("[1][1:", "]"),
            longest(|times| format!("{}(1{}", "(".repeat(times), "+1)".repeat(times + 1))),
            longest(|times| format!("({}){}", "-".repeat(MAX_NESTING - 2) + "1", "**1".repeat(times))),
        ];
        std::thread::Builder::new()
            .stack_size(NEEDED / 2)
            .spawn(move || {
                let context = Context::new();
                for source in worst {
                    if let Ok(node) = compile(&source, Scope::VALUES) {
                        reads(&node, &mut Vec::new());
                        let meter = &mut Meter::new(Limits::default());
                        let result = Evaluation {
                            context: &context,
                            meter,
                        }
                        .evaluate(&node);
                        assert!(result.is_ok() || result.is_err());
                        assert_eq!(node.clone(), node, "copying and comparing recurse too");
                    }
                }
            })
            .expect("a thread starts")
            .join()
            .expect("nothing panics");
    }

    #[test]
    fn what_overflowed_two_megabytes_is_refused_or_evaluated() {
        let hostile = [
            "(",
            "[",
            "{'a':",
            "-",
            "not ",
            "1 if 1 else ",
            "parameters.x[",
            "1|default(",
        ];
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || {
                for part in hostile {
                    for times in [MAX_NESTING + 1, 100, 600, 4800, 100_000] {
                        let source = part.repeat(times);
                        for text in [format!("{{{{ {source}1 }}}}"), format!("{{{{{source}")] {
                            assert!(
                                crate::Template::parse(&text, Scope::VALUES).is_err(),
                                "{part} {times}"
                            );
                        }
                        assert!(
                            crate::Expression::parse(&source, Scope::VALUES).is_err(),
                            "{part} {times}"
                        );
                    }
                }
                for chain in ["+1", ".a", "|abs", "**1", "[0]", " and 1", "~1", "()"] {
                    let source = format!("parameters{}", chain.repeat(MAX_EXPRESSION));
                    assert!(
                        crate::Expression::parse(&source, Scope::VALUES).is_err(),
                        "{chain}"
                    );
                    let text = format!("{{{{ 1{} }}}}", chain.repeat(2000));
                    assert!(crate::Template::parse(&text, Scope::VALUES).is_err(), "{chain}");
                }
            })
            .expect("a thread starts")
            .join()
            .expect("nothing panics");
    }

    #[test]
    fn a_caller_with_little_stack_gets_enough() {
        let text = format!("{{{{ 1{} }}}}", "+1".repeat(MAX_DEPTH - 1));
        let sum = std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || {
                let template = crate::Template::parse(&text, Scope::VALUES).expect("it is within the caps");
                template.render(&Context::new(), Limits::default())
            })
            .expect("a thread starts")
            .join()
            .expect("nothing panics");
        assert_eq!(sum, Ok(json!(MAX_DEPTH)));
    }
}
