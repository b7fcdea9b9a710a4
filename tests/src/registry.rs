//! The OCI registry that charts are pushed to.

/// The registry of the test run, or one of its own where there is none.
#[derive(Debug)]
pub struct Registry {
    address: String,
    _own: Option<xtask::registry::Registry>,
}

impl Registry {
    /// The registry that `SLIPWAY_TEST_REGISTRY` names; else a new one, which ends with this value.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        match std::env::var("SLIPWAY_TEST_REGISTRY") {
            Ok(address) => Self { address, _own: None },
            Err(_) => {
                let own = xtask::registry::Registry::start().unwrap();
                Self {
                    address: own.address(),
                    _own: Some(own),
                }
            }
        }
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}
