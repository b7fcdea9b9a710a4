//! What is known of an expression without evaluating it.

use serde_json::json;
use slipway_expr::{
    Collected, Context, Expression, Limits, MAX_EXPRESSION, MAX_TEXT, Path, Scope, Template,
    collect_references, render_value, render_value_partial, resolve_step, walk_strings,
};

/// The references of a text, with `?` behind those whose absence is coped with.
fn reads(text: &str) -> Vec<String> {
    let template = Template::parse(text, Scope::VALUES).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mark = |optional| if optional { "?" } else { "" };
    template
        .references()
        .iter()
        .map(|read| format!("{}{}", read.reference, mark(read.optional)))
        .collect()
}

#[track_caller]
fn refused(text: &str, message: &str) {
    let error = Template::parse(text, Scope::VALUES).expect_err(text).to_string();
    assert!(error.contains(message), "{text}: {error}");
}

#[test]
fn references_are_found_wherever_they_stand() {
    assert_eq!(reads("{{ parameters.x }}"), ["parameters.x"]);
    assert_eq!(
        reads("a{{ steps.llm.outputs.endpoint_url }}b{{ secrets.token }}c{{ deployment.name }}"),
        [
            "steps.llm.outputs.endpoint_url",
            "secrets.token",
            "deployment.name"
        ]
    );
    assert_eq!(
        reads("{{ steps['a-b'].outputs['c.d'] }}"),
        ["steps['a-b'].outputs['c.d']"]
    );
    assert_eq!(
        reads("{{ steps['llm']['outputs']['url'] }}"),
        ["steps.llm.outputs.url"]
    );
    assert_eq!(
        reads("{{ steps.db.outputs.services[0].ports[parameters.i] }}"),
        ["steps.db.outputs.services", "parameters.i"]
    );
    assert_eq!(
        reads("{{ steps.db.outputs.list[parameters.a:parameters.b:parameters.c] }}").len(),
        4
    );
    assert_eq!(
        reads("{{ [parameters.a, {'k': parameters.b}, (parameters.c, 1)] }}").len(),
        3
    );
    assert_eq!(
        reads("{{ parameters.a if parameters.b else parameters.c }}").len(),
        3
    );
    assert_eq!(
        reads("{{ 'x' | replace(parameters.a, new=parameters.b) }}"),
        ["parameters.a", "parameters.b"]
    );
    assert_eq!(reads("{{ 1 is eq(parameters.a) }}"), ["parameters.a"]);
    assert_eq!(
        reads("{{ not -parameters.a ** parameters.b < parameters.c }}").len(),
        3
    );
    assert_eq!(
        reads("{{ parameters.a }}{{ parameters.a }}"),
        ["parameters.a"],
        "each once"
    );
}

#[test]
fn text_that_looks_like_a_reference_is_none() {
    assert_eq!(reads("{{ 'parameters.x' }}"), Vec::<String>::new());
    assert_eq!(reads("{{ \"}} {{ steps.x.status }}\" }}"), Vec::<String>::new());
    assert_eq!(
        reads("{{ {'parameters': {'x': 1}}['parameters'].x }}"),
        Vec::<String>::new()
    );
    assert_eq!(reads("{{ parameters.steps.secrets }}"), ["parameters.steps"]);
    assert_eq!(reads("parameters.x } steps"), Vec::<String>::new());
    assert_eq!(
        reads("{# {{ parameters.x }} #}{% raw %}{{ steps }}{% endraw %}"),
        Vec::<String>::new()
    );
    assert!(Template::parse("plain } {", Scope::VALUES).unwrap().is_literal());
    assert!(
        Template::parse("{% raw %}{{ x }}{% endraw %}", Scope::VALUES)
            .unwrap()
            .is_literal()
    );
    assert!(!Template::parse("{{ 1 }}", Scope::VALUES).unwrap().is_literal());
}

#[test]
fn what_copes_with_absence() {
    assert_eq!(reads("{{ parameters.x | default('y') }}"), ["parameters.x?"]);
    assert_eq!(
        reads("{{ parameters.x.y[0] | d('y') | upper }}"),
        ["parameters.x?"]
    );
    assert_eq!(
        reads("{{ parameters.x | upper | default('y') }}"),
        ["parameters.x"],
        "upper comes first"
    );
    assert_eq!(
        reads("{{ parameters.x | default(parameters.y) }}"),
        ["parameters.x?", "parameters.y"]
    );
    assert_eq!(
        reads("{{ parameters.x | default(parameters.y | default(1)) }}"),
        ["parameters.x?", "parameters.y?"]
    );
    assert_eq!(reads("{{ parameters.x is defined }}"), ["parameters.x?"]);
    assert_eq!(reads("{{ parameters.x is not undefined }}"), ["parameters.x?"]);
    assert_eq!(reads("{{ parameters.x is none }}"), ["parameters.x"]);
    assert_eq!(
        reads("{{ parameters.x or 'y' }}"),
        ["parameters.x"],
        "`or` does not cope"
    );
    assert_eq!(
        reads("{{ (parameters.x | default(1)) + parameters.x }}"),
        ["parameters.x"],
        "only one of two reads"
    );
    assert_eq!(
        reads("{{ parameters.x[steps.a.outputs.b] | default(1) }}"),
        ["parameters.x?", "steps.a.outputs.b"]
    );
}

#[test]
fn a_test_guards_the_branch_behind_it() {
    let optional = [
        "parameters.x if parameters.x is defined else 1",
        "1 if parameters.x is undefined else parameters.x",
        "1 if parameters.x is not defined else parameters.x",
        "1 if not parameters.x is defined else parameters.x",
        "parameters.x.y if parameters.x.y is defined else 1",
        "parameters.x > 1 if true and parameters.x is defined else false",
        "parameters.x is defined and parameters.x > 1",
        "parameters.x is undefined or parameters.x > 1",
    ];
    for text in optional {
        assert_eq!(reads(&format!("{{{{ {text} }}}}")), ["parameters.x?"], "{text}");
    }
    let needed = [
        "parameters.x if parameters.x is undefined else 1",
        "1 if parameters.x is defined else parameters.x",
        "parameters.x if parameters.x is defined or true else 1",
        "parameters.x is defined or parameters.x > 1",
        "parameters.x is undefined and parameters.x > 1",
        "parameters.x > 1 and parameters.x is defined",
        "(1 if parameters.x is defined else 2) + parameters.x",
    ];
    for text in needed {
        assert_eq!(reads(&format!("{{{{ {text} }}}}")), ["parameters.x"], "{text}");
    }
}

#[test]
fn incomplete_paths_are_refused_with_the_right_form() {
    for text in [
        "{{ steps }}",
        "{{ steps.x }}",
        "{{ steps.x.status }}",
        "{{ steps.x.outputs }}",
        "{{ steps.x.output.y }}",
        "{{ steps | length }}",
        "{{ steps['x'] }}",
        "{{ 'x' in steps }}",
        "{{ steps.my-step.outputs.x }}",
        "{{ steps[1:2] }}",
        "{{ [steps.x] }}",
        "{{ steps.x | default(1) }}",
    ] {
        refused(text, "is not complete: write steps.NAME.outputs.KEY");
    }
    refused("{{ secrets }}", "write secrets.NAME");
    refused("{{ parameters }}", "write parameters.NAME");
    refused("{{ parameters | tojson }}", "write parameters.NAME");
    refused("{{ deployment }}", "write deployment.NAME");
}

#[test]
fn computed_names_are_refused() {
    refused("{{ steps[parameters.x] }}", "`steps[…]` is computed");
    refused("{{ steps[parameters.x].outputs.y }}", "`steps[…]` is computed");
    refused(
        "{{ steps.x.outputs[parameters.y] }}",
        "`steps.x.outputs[…]` is computed",
    );
    refused("{{ steps.x['out' ~ 'puts'].y }}", "`steps.x[…]` is computed");
    refused("{{ secrets['a' ~ 'b'] }}", "`secrets[…]` is computed");
    refused("{{ parameters[0] }}", "`parameters[…]` is computed");
}

#[test]
fn unknown_names_list_the_known_ones() {
    refused(
        "{{ parameter.x }}",
        "unknown name `parameter`: an expression here can read parameters.NAME, steps.NAME.outputs.KEY, deployment.NAME, secrets.NAME",
    );
    refused("{{ self }}", "unknown name `self`");
    refused("{{ loop.index }}", "unknown name `loop`");
    refused("{{ hello world }}", "syntax error");
    refused("{{ selections.llm }}", "`selections` cannot be read here");
    let error = Expression::parse("steps.a.outputs.b", Scope::WHEN)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "`steps` cannot be read here: an expression here can read parameters.NAME, selections.NAME"
    );
}

#[test]
fn what_is_not_in_the_language_is_refused() {
    for text in [
        "{% if true %}x{% endif %}",
        "{% for i in [1] %}{% endfor %}",
        "{% set x = 1 %}",
        "{%- include 'x' -%}",
        "{% macro x() %}{% endmacro %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
    ] {
        refused(text, "statements ({% … %}) are not allowed");
    }
    for text in [
        "{{ debug() }}",
        "{{ range(10) }}",
        "{{ parameters.x.upper() }}",
        "{{ dict(a=1) }}",
        "{{ 'a'.join([1]) }}",
    ] {
        refused(text, "cannot be called");
    }
    refused("{{ parameters.x.upper() }}", "`value | upper`");
    for filter in [
        "safe", "escape", "map", "format", "pprint", "indent", "attr", "tojson.x", "center", "batch",
    ] {
        refused(&format!("{{{{ 'x' | {filter} }}}}"), "unknown filter");
    }
    refused("{{ 1 is sameas(1) }}", "unknown test `sameas`");
    refused(
        "{{ 'x' | replace('y') }}",
        "wrong arguments: replace is written `value | replace('old', 'new')`",
    );
    refused("{{ 'x' | upper(1) }}", "wrong arguments");
    refused("{{ 'x' | default(*[1]) }}", "wrong arguments");
    refused("{{ 'x' | default(1, default_value=2) }}", "wrong arguments");
    refused("{{ 'x' | default(nothing=2) }}", "wrong arguments");
    refused("{{ 1 is divisibleby }}", "wrong arguments");
    refused("{{ 1 if true }}", "needs an `else`");
    refused("{{ }}", "the expression is empty");
    refused("{{ 340282366920938463463374607431768211455 }}", "too large");
    refused("{{ parameters.x", "does not end");
    refused("{{ 'a }}", "syntax error");
    refused(
        "a {#fff} b",
        "does not end; to keep the characters as text, put them between {% raw %} and {% endraw %}",
    );
    refused("{% raw %} {{ x }}", "does not end");
    refused("{{ 1 }} {{ ", "does not end");
    refused("{{ ) }}", "closes nothing");
    refused("{{ [1}] }}", "closes nothing");
}

#[test]
fn conditions_are_bare() {
    let error = Expression::parse("{{ parameters.x }}", Scope::WHEN)
        .unwrap_err()
        .to_string();
    assert!(error.contains("without {{ and }}"), "{error}");
    assert!(Expression::parse("", Scope::WHEN).is_err());
    assert!(Expression::parse("parameters.x }} {{ steps.y", Scope::WHEN).is_err());
    assert!(Expression::parse("parameters.x, 1", Scope::WHEN).is_err());
    let expression = Expression::parse("selections.llm == 'x' and parameters.gpu", Scope::WHEN).unwrap();
    let read: Vec<String> = expression
        .references()
        .iter()
        .map(|read| read.reference.to_string())
        .collect();
    assert_eq!(read, ["selections.llm", "parameters.gpu"]);
}

#[test]
fn sizes_are_capped_but_plain_text_is_not() {
    let plain = "x".repeat(10 * MAX_TEXT);
    assert!(Template::parse(&plain, Scope::VALUES).unwrap().is_literal());
    refused(&format!("{plain}{{{{ parameters.x }}}}"), "at most 65536");
    refused(
        &format!("{{{{ '{}' }}}}", "x".repeat(MAX_EXPRESSION)),
        "at most 4096",
    );
    refused(
        &format!("{{{{ [{}] }}}}", "1,".repeat(300)),
        "more than 512 tokens",
    );
    refused(
        &format!("{{{{ {}1{} }}}}", "(".repeat(17), ")".repeat(17)),
        "nests more than 16 deep",
    );
    refused(
        &format!("{{{{ 1{} }}}}", " + 1".repeat(65)),
        "more than 64 operations",
    );
}

#[test]
fn all_errors_of_a_value_are_told_at_once() {
    let values = json!({
        "a": "{{ parameters.x }}", "b": ["{{ steps.y }}", {"c": "{{ steps.z.outputs.url | default('') }}"}],
        "d": "{{ nonsense }}", "{{ key }}": 1, "e": 5
    });
    let Collected { references, errors } = collect_references(&values, &Path::of("values"), Scope::VALUES);
    let found: Vec<String> = references
        .iter()
        .map(|(path, read)| format!("{path}={}:{}", read.reference, read.optional))
        .collect();
    assert_eq!(
        found,
        [
            "values.a=parameters.x:false",
            "values.b[1].c=steps.z.outputs.url:true"
        ]
    );
    let paths: Vec<String> = errors.iter().map(|error| error.path.to_string()).collect();
    assert_eq!(paths, ["values.b[0]", "values.d"]);
}

#[test]
fn strings_are_walked_in_order_with_their_paths() {
    let mut seen = Vec::new();
    walk_strings(&json!([1, "a", {"k": ["b"]}]), &Path::root(), |path, text| {
        seen.push(format!("{path}={text}"));
    });
    assert_eq!(seen, ["[1]=a", "[2].k[0]=b"]);
}

#[test]
fn strings_with_secrets_are_left_whole_and_named() {
    let parameters = json!({"name": "x", "password": "ref:1", "braces": "{{ secrets.token }}"});
    let parameters = parameters.as_object().unwrap();
    let context = Context::new()
        .parameters(parameters)
        .secret_parameters(["password"]);
    let values = json!({
        "url": "http://{{ parameters.name }}:{{ secrets.token }}@h", "name": "{{ parameters.name }}",
        "env": ["{{ parameters.password | b64encode }}", "{{ parameters.braces }}"]
    });
    let at = Path::of("values");
    let partial = render_value_partial(&values, &at, Scope::VALUES, &context, Limits::default()).unwrap();
    assert_eq!(
        partial.value,
        json!({
            "url": "http://{{ parameters.name }}:{{ secrets.token }}@h", "name": "x",
            "env": ["{{ parameters.password | b64encode }}", "{{ secrets.token }}"]
        })
    );
    let pending: Vec<String> = partial.pending.iter().map(ToString::to_string).collect();
    assert_eq!(
        pending,
        ["values.env[0]", "values.url"],
        "the rendered text with braces is not pending"
    );

    let error = render_value(&values, &at, Scope::VALUES, &context, Limits::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is a secret, and secrets cannot be read here"),
        "{error}"
    );

    let secrets = json!({"token": "t"});
    let parameters = json!({"name": "x", "password": "p", "braces": "{{ secrets.token }}"});
    let full = Context::new()
        .parameters(parameters.as_object().unwrap())
        .secrets(secrets.as_object().unwrap());
    assert_eq!(
        render_value(&values, &at, Scope::VALUES, &full, Limits::default()).unwrap(),
        json!({"url": "http://x:t@h", "name": "x", "env": ["cA==", "{{ secrets.token }}"]})
    );
}

#[test]
fn steps_are_resolved_by_name_first() {
    let exists = |known: &'static [&'static str]| move |name: &str| known.contains(&name);
    assert_eq!(resolve_step("llm", exists(&["llm"])), Some("llm"));
    assert_eq!(resolve_step("deploy_llm", exists(&["llm"])), Some("llm"));
    assert_eq!(
        resolve_step("deploy_llm", exists(&["llm", "deploy_llm"])),
        Some("deploy_llm")
    );
    assert_eq!(resolve_step("deploy_deploy_llm", exists(&["llm"])), None);
    assert_eq!(resolve_step("nothing", exists(&["llm"])), None);
}
