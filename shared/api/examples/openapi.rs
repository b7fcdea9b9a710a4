//! Prints the OpenAPI document: `cargo run -p slipway-api --example openapi > docs/openapi.json`.
#![allow(clippy::print_stdout)]

fn main() {
    let document =
        serde_json::to_string_pretty(&slipway_api::document()).expect("the document has text keys only");
    println!("{document}");
}
