//! What expressions give.

use serde_json::{Map, Value, json};
use slipway_expr::{
    Context, Expression, Limits, Path, Reference, RenderError, Scope, Template, render_value, results_reading,
};

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("not an object: {other}"),
    }
}

fn render(text: &str) -> Result<Value, RenderError> {
    let parameters = object(json!({
        "replicas": 3, "ratio": 0.5, "name": "Ada", "empty": "", "nothing": null, "on": true, "off": false,
        "tags": ["b", "a", "b"], "numbers": [3, 1, 2], "limits": {"cpu": "2", "memory": "4Gi"},
        "braces": "{{ parameters.name }}", "big": u64::MAX, "word": "yes", "tag-line": "x"
    }));
    let llm = object(json!({
        "endpoint_url": "http://llm:8000",
        "services": [{"name": "llm", "ports": [8000, 9000]}]
    }));
    let deployment = object(json!({"name": "my-rag"}));
    let secrets = object(json!({"token": "s3cret {{ parameters.name }}"}));
    let context = Context::new()
        .parameters(&parameters)
        .step("llm", Some(&llm))
        .step("skipped", None)
        .deployment(&deployment)
        .secrets(&secrets);
    Template::parse(text, Scope::VALUES)
        .expect("the template parses")
        .render(&context, Limits::default())
}

#[track_caller]
fn gives(text: &str, expected: impl Into<Value>) {
    assert_eq!(render(text), Ok(expected.into()), "{text}");
}

#[track_caller]
fn fails(text: &str, message: &str) {
    let error = render(text).expect_err(text).to_string();
    assert!(error.contains(message), "{text}: {error}");
}

#[test]
fn a_text_that_is_one_expression_keeps_the_type() {
    gives("{{ parameters.replicas }}", json!(3));
    gives("{{parameters.ratio}}", json!(0.5));
    gives("{{ parameters.on }}", json!(true));
    gives("{{ parameters.nothing }}", Value::Null);
    gives("{{ parameters.limits }}", json!({"cpu": "2", "memory": "4Gi"}));
    gives("{{ parameters.big }}", json!(u64::MAX));
    gives(
        "{{ steps.llm.outputs.services }}",
        json!([{"name": "llm", "ports": [8000, 9000]}]),
    );
}

#[test]
fn any_other_text_stays_a_text() {
    gives("{{ parameters.replicas }} replicas", json!("3 replicas"));
    gives(" {{ parameters.replicas }}", json!(" 3"));
    gives("{{ parameters.replicas }}{{ parameters.on }}", json!("3true"));
    gives(
        "{{ deployment.name }}.svc:{{ steps.llm.outputs.services[0].ports[1] }}\n",
        json!("my-rag.svc:9000\n"),
    );
    gives(
        "{{ parameters.tags }} {{ parameters.nothing }}",
        json!("[\"b\",\"a\",\"b\"] none"),
    );
    gives("no expression } } here {", json!("no expression } } here {"));
}

#[test]
fn braces_can_be_kept() {
    gives("{{ '{{' }} .Values.x }}", json!("{{ .Values.x }}"));
    gives(
        "{% raw %}{{ $labels.pod }}{% endraw %} on {{ parameters.name }}",
        json!("{{ $labels.pod }} on Ada"),
    );
    gives("a{# comment #}b", json!("ab"));
    gives("a  {{- parameters.name -}}  b", json!("aAdab"));
}

#[test]
fn a_value_with_braces_is_text() {
    gives("{{ parameters.braces }}", json!("{{ parameters.name }}"));
    gives("<{{ parameters.braces }}>", json!("<{{ parameters.name }}>"));
    gives("{{ secrets.token }}", json!("s3cret {{ parameters.name }}"));
    gives(
        "{{ '{{ parameters.name }}' | upper }}",
        json!("{{ PARAMETERS.NAME }}"),
    );
}

#[test]
fn paths_in_brackets() {
    gives("{{ parameters['tag-line'] }}", json!("x"));
    gives(
        "{{ steps['llm'].outputs['endpoint_url'] }}",
        json!("http://llm:8000"),
    );
    gives("{{ steps['llm']['outputs'].services[-1]['name'] }}", json!("llm"));
    gives(
        "{{ parameters.limits[parameters.off and 'x' or 'cpu'] }}",
        json!("2"),
    );
    gives("{{ parameters.tags[1:] }}", json!(["a", "b"]));
    gives("{{ parameters.tags[::-1] }}", json!(["b", "a", "b"]));
    gives("{{ parameters.name[:2] }}", json!("Ad"));
    gives("{{ parameters.numbers[-2:] }}", json!([1, 2]));
}

#[test]
fn a_missing_value_is_named() {
    fails("{{ parameters.missing }}", "`parameters.missing` has no value");
    fails(
        "x{{ steps.llm.outputs.missing }}",
        "`steps.llm.outputs.missing` has no value",
    );
    fails(
        "{{ steps.skipped.outputs.x }}",
        "`steps.skipped.outputs.x` has no value",
    );
    fails(
        "{{ steps['a-b'].outputs.x | upper }}",
        "`steps['a-b'].outputs.x` has no value",
    );
    fails(
        "{{ parameters.limits.gpu ~ 'x' }}",
        "`parameters.limits.gpu` has no value",
    );
    fails("{{ parameters.tags[7] }}", "`parameters.tags[7]` has no value");
    fails(
        "{{ parameters.missing == 1 }}",
        "`parameters.missing` has no value",
    );
    fails(
        "{{ not parameters.missing }}",
        "`parameters.missing` has no value",
    );
    fails("{{ [parameters.missing] }}", "`parameters.missing` has no value");
    fails(
        "{{ parameters.missing or 'x' }}",
        "`parameters.missing` has no value",
    );
    fails(
        "{{ (parameters.missing | upper) | default('x') }}",
        "`parameters.missing` has no value",
    );
}

#[test]
fn a_missing_value_can_be_coped_with() {
    gives("{{ parameters.missing | default('x') }}", json!("x"));
    gives("{{ parameters.missing.deep[3].er | d(5) }}", json!(5));
    gives(
        "{{ steps.skipped.outputs.url | default(parameters.name) | upper }}",
        json!("ADA"),
    );
    gives(
        "{{ steps.unknown.outputs.url | default(default_value='u') }}",
        json!("u"),
    );
    gives("{{ parameters.empty | default('x') }}", json!(""));
    gives("{{ parameters.empty | default('x', true) }}", json!("x"));
    gives("{{ parameters.empty | default('x', boolean=true) }}", json!("x"));
    gives("{{ parameters.missing | default }}", json!(""));
    gives("{{ parameters.missing is defined }}", json!(false));
    gives("{{ parameters.missing is not defined }}", json!(true));
    gives(
        "{{ parameters.m if parameters.m is defined else 'none' }}",
        json!("none"),
    );
    gives("{{ parameters.m is defined and parameters.m > 3 }}", json!(false));
}

#[test]
fn deploy_prefix_falls_back_to_the_component() {
    gives(
        "{{ steps.deploy_llm.outputs.endpoint_url }}",
        json!("http://llm:8000"),
    );
    let outputs = object(json!({"url": "one"}));
    let other = object(json!({"url": "two"}));
    let context = Context::new()
        .step("deploy_x", Some(&outputs))
        .step("x", Some(&other));
    let template = Template::parse("{{ steps.deploy_x.outputs.url }}", Scope::VALUES).unwrap();
    assert_eq!(template.render(&context, Limits::default()), Ok(json!("one")));
    let context = Context::new().step("deploy_x", None).step("x", Some(&other));
    assert!(
        template.render(&context, Limits::default()).is_err(),
        "a skipped step exists"
    );
}

#[test]
fn operators_follow_jinja() {
    gives("{{ 7 // 2 }}", json!(3));
    gives("{{ -7 // 2 }}", json!(-4));
    gives("{{ 7 // -2 }}", json!(-4));
    gives("{{ -7 // -2 }}", json!(3));
    gives("{{ -7 % 3 }}", json!(2));
    gives("{{ 7 % -3 }}", json!(-2));
    gives("{{ 6 / 4 }}", json!(1.5));
    gives("{{ 2 ** 10 }}", json!(1024));
    gives("{{ 1 + 2 * 3 - 4 }}", json!(3));
    gives("{{ 'a' ~ 1 ~ true }}", json!("a1true"));
    gives("{{ 'a' * 3 }}", json!("aaa"));
    gives("{{ [1] + [2] }}", json!([1, 2]));
    gives("{{ 1 < 2 <= 2 }}", json!(true));
    gives("{{ 1 == 1.0 }}", json!(true));
    gives("{{ 'd' in parameters.name }}", json!(true));
    gives("{{ 'cpu' in parameters.limits }}", json!(true));
    gives("{{ 9 not in parameters.numbers }}", json!(true));
    gives("{{ 0 or 'x' }}", json!("x"));
    gives("{{ 0 and 'x' }}", json!(0));
    gives("{{ not '' }}", json!(true));
    gives(
        "{{ 'many' if parameters.replicas > 1 else 'one' }}",
        json!("many"),
    );
    gives(
        "{{ {'a': 1, 'b': [parameters.replicas]} }}",
        json!({"a": 1, "b": [3]}),
    );
}

#[test]
fn operators_refuse_what_has_no_meaning() {
    fails("{{ 'a' + 1 }}", "`+` cannot be used on a text and an integer");
    fails("{{ 'a' < 1 }}", "`<` cannot be used on a text and an integer");
    fails("{{ 1 / 0 }}", "`/` has no result");
    fails("{{ 1 // 0 }}", "`//` has no result");
    fails("{{ 1 % 0 }}", "`%` has no result");
    fails("{{ 2 ** 100000 }}", "`**` has no result");
    fails("{{ 18446744073709551615 + 1 }}", "`+` has no result");
    fails("{{ 'a' * -1 }}", "`*` cannot be used");
    fails("{{ 1 in 1 }}", "`in` cannot be used");
    fails("{{ -'a' }}", "`-` cannot be used on a text");
    fails("{{ parameters.name[::0] }}", "step 0");
    fails("{{ {1: 2} }}", "texts as keys");
}

#[test]
fn filters() {
    gives("{{ parameters.name | upper | lower | capitalize }}", json!("Ada"));
    gives("{{ 'hello big-world' | title }}", json!("Hello Big-World"));
    gives("{{ '  x ' | trim }}", json!("x"));
    gives("{{ '/x/' | trim('/') }}", json!("x"));
    gives("{{ 'a-b' | replace('-', '_') }}", json!("a_b"));
    gives("{{ parameters.tags | join(',') }}", json!("b,a,b"));
    gives("{{ parameters.numbers | join }}", json!("312"));
    gives("{{ 'a,b' | split(',') }}", json!(["a", "b"]));
    gives("{{ ' a  b ' | split }}", json!(["a", "b"]));
    gives("{{ parameters.tags | length }}", json!(3));
    gives("{{ 'äö' | length }}", json!(2));
    gives(
        "{{ parameters.tags | first ~ parameters.tags | last }}",
        json!("bb"),
    );
    gives("{{ parameters.tags | unique | sort }}", json!(["a", "b"]));
    gives("{{ parameters.numbers | sort(reverse=true) }}", json!([3, 2, 1]));
    gives("{{ parameters.numbers | min }}", json!(1));
    gives("{{ parameters.numbers | max }}", json!(3));
    gives("{{ parameters.numbers | sum }}", json!(6));
    gives("{{ parameters.numbers | reverse }}", json!([2, 1, 3]));
    gives("{{ parameters.limits | list }}", json!(["cpu", "memory"]));
    gives("{{ parameters.limits.cpu | int + 1 }}", json!(3));
    gives("{{ '2.7' | int }}", json!(2));
    gives("{{ '2.5' | float }}", json!(2.5));
    gives("{{ 'x' | int(7) }}", json!(7));
    gives("{{ parameters.word | bool }}", json!(true));
    gives("{{ 'false' | bool }}", json!(false));
    gives("{{ parameters.replicas | string }}", json!("3"));
    gives(
        "{{ parameters.limits | tojson }}",
        json!("{\"cpu\":\"2\",\"memory\":\"4Gi\"}"),
    );
    gives("{{ 'ab<' | tojson }}", json!("\"ab<\""));
    gives("{{ 'user:pass' | b64encode }}", json!("dXNlcjpwYXNz"));
    gives("{{ 'dXNlcjpwYXNz' | b64decode }}", json!("user:pass"));
    gives("{{ 'a b/ü' | urlencode }}", json!("a%20b%2F%C3%BC"));
    gives("{{ -3 | abs }}", json!(3));
    gives("{{ 2.567 | round(2) }}", json!(2.57));
    gives("{{ 2.5 | round }}", json!(3.0));
}

#[test]
fn filters_refuse_what_they_cannot_take() {
    fails(
        "{{ 3 | upper }}",
        "upper cannot be used on an integer; it takes a text",
    );
    fails("{{ [] | first }}", "first cannot read");
    fails("{{ 'x' | int }}", "int cannot read");
    fails("{{ 'maybe' | bool }}", "bool cannot read");
    fails("{{ [1, 'a'] | sort }}", "sort cannot be used on");
    fails("{{ ['a'] | sum }}", "sum cannot be used on");
    fails("{{ '%%' | b64decode }}", "b64decode cannot read");
    fails("{{ 'a' | split('') }}", "separator that is not empty");
    fails("{{ 'inf' | float }}", "float cannot read");
}

#[test]
fn tests_behind_is() {
    for text in [
        "3 is odd",
        "4 is even",
        "9 is divisibleby(3)",
        "9 is divisibleby 3",
        "'ab' is startingwith('a')",
        "'ab' is endingwith('b')",
        "1 is in [1, 2]",
        "1 is eq 1",
        "1 is ne(2)",
        "1 is lt 2",
        "2 is le 2",
        "2 is gt 1",
        "2 is ge 2",
        "none is none",
        "true is true",
        "false is false",
        "true is boolean",
        "'' is string",
        "1.5 is number",
        "1 is integer",
        "1.5 is float",
        "[] is sequence",
        "{} is mapping",
        "'x' is not none",
    ] {
        gives(&format!("{{{{ {text} }}}}"), json!(true));
    }
    fails("{{ 'a' is odd }}", "`is odd` cannot be used on a text");
    fails("{{ 1 is divisibleby 0 }}", "has no result");
}

#[test]
fn conditions_must_be_boolean() {
    let parameters = object(json!({"gpu": true, "size": 4}));
    let selections = object(json!({"llm": "llama-3-8b"}));
    let context = Context::new().parameters(&parameters).selections(&selections);
    let evaluate = |text: &str| {
        Expression::parse(text, Scope::WHEN)
            .expect("it parses")
            .evaluate(&context, Limits::default())
    };
    assert_eq!(evaluate("parameters.gpu"), Ok(true));
    assert_eq!(
        evaluate("parameters.gpu and selections.llm == 'llama-3-8b'"),
        Ok(true)
    );
    assert_eq!(evaluate("parameters.size > 4"), Ok(false));
    assert_eq!(
        evaluate("parameters.size"),
        Err(RenderError::NotBoolean { found: "an integer" })
    );
    assert!(matches!(
        evaluate("parameters.none"),
        Err(RenderError::Undefined { .. })
    ));
}

#[test]
fn errors_never_hold_values() {
    let secret = "hunter2";
    let secrets = object(json!({"x": secret, "list": [secret]}));
    let context = Context::new().secrets(&secrets);
    for text in [
        "{{ secrets.x | int }}",
        "{{ secrets.x + 1 }}",
        "{{ secrets.x.y }}",
        "{{ secrets.x | b64decode }}",
        "{{ secrets.x | bool }}",
        "{{ secrets.list[secrets.x] }}",
        "{{ {'a': 1}[secrets.x] }}",
        "{{ secrets.x < 1 }}",
        "{{ secrets.list | sum }}",
        "{{ [1][secrets.x] ~ '' }}",
        "{{ -secrets.x }}",
        "{{ secrets.x | sort }}",
    ] {
        let error = Template::parse(text, Scope::VALUES)
            .unwrap()
            .render(&context, Limits::default())
            .expect_err(text);
        assert!(!format!("{error} {error:?}").contains(secret), "{text}: {error}");
    }
}

#[test]
fn whole_values_are_rendered_with_paths() {
    let parameters = object(json!({"n": 2, "name": "x"}));
    let context = Context::new().parameters(&parameters);
    let values = json!({"replicas": "{{ parameters.n }}", "env": [{"{{ parameters.name }}": "<{{ parameters.name }}>"}], "on": true});
    let rendered = render_value(
        &values,
        &Path::of("values"),
        Scope::VALUES,
        &context,
        Limits::default(),
    )
    .unwrap();
    assert_eq!(
        rendered,
        json!({"replicas": 2, "env": [{"{{ parameters.name }}": "<x>"}], "on": true}),
        "keys stay as they are"
    );

    let values = json!({"env": ["a", "b", {"a.b": {"value": "{{ parameters.missing }}"}}]});
    let error = render_value(
        &values,
        &Path::of("values"),
        Scope::VALUES,
        &context,
        Limits::default(),
    )
    .expect_err("a value is missing");
    assert_eq!(
        error.to_string(),
        "values.env[2][\"a.b\"].value: `parameters.missing` has no value; give it one, or write `parameters.missing | default(…)`"
    );
}

#[test]
fn what_was_asked_for_is_given_expression_by_expression() {
    let parameters = object(json!({"n": 2, "name": "x"}));
    let secrets = object(json!({"login": "me:pw"}));
    let context = Context::new().parameters(&parameters).secrets(&secrets);
    let login = "<{{ (secrets.login | split(':'))[1] }}> as {{ parameters.name }}";
    let whole = "{{ secrets.login | split(':') }}";
    let values = json!([login, {"n": "{{ parameters.n }}"}, whole, "{{ secrets.absent }}", "{{ secrets."]);
    let is_secret = |reference: &Reference| matches!(reference, Reference::Secret { .. });
    let results = results_reading(&values, Scope::VALUES, &context, Limits::default(), is_secret);
    assert_eq!(results, [(login, json!("pw")), (whole, json!(["me", "pw"]))]);
}
