//! Templates of tiny charts.

use serde_json::{Map, Value, json};

/// A template under construction.
#[derive(Debug, Clone)]
pub struct Template {
    document: Value,
}

impl Template {
    /// A template of this name without components.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            document: json!({"name": name, "version": "1.0.0", "components": []}),
        }
    }

    /// With a `helm` component that deploys a chart with these values.
    #[must_use]
    pub fn helm(self, name: &str, chart: &str, values: &Value) -> Self {
        self.component(&json!({"name": name, "type": "helm", "chart": {"ref": chart, "values": values}}))
    }

    /// With a component.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn component(mut self, component: &Value) -> Self {
        self.document["components"]
            .as_array_mut()
            .unwrap()
            .push(component.clone());
        self
    }

    /// With further fields of the component that was added last.
    ///
    /// # Panics
    /// When there is none, or `fields` is no object.
    #[must_use]
    pub fn and(mut self, fields: &Value) -> Self {
        let last = self.document["components"]
            .as_array_mut()
            .unwrap()
            .last_mut()
            .unwrap();
        merge(last, fields);
        self
    }

    /// With a field of its own.
    #[must_use]
    pub fn set(mut self, field: &str, value: &Value) -> Self {
        self.document[field] = value.clone();
        self
    }

    /// As it is posted.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }
}

fn merge(into: &mut Value, fields: &Value) {
    let into: &mut Map<String, Value> = into.as_object_mut().unwrap();
    for (key, value) in fields.as_object().unwrap() {
        into.insert(key.clone(), value.clone());
    }
}
