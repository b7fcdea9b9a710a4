//! The catalog that comes with Slipway.

use slipway_model::Catalog;

use crate::{MAX_TEMPLATE_BYTES, parse, template::check_catalog};

const CATALOG: &str = include_str!("../../../templates/catalog.yaml");

/// The catalog that every control plane serves: `templates/catalog.yaml`.
pub fn bundled_catalog() -> Catalog {
    let value = parse(CATALOG, MAX_TEMPLATE_BYTES).expect("the catalog is YAML");
    check_catalog(value).expect("the catalog is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_catalog_can_be_read() {
        assert!(bundled_catalog().entry("qdrant").is_some());
    }
}
