//! The control plane, put together on simulated ports.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use slipway_app::{App, Services, Settings};
use slipway_model::Catalog;

use crate::{
    cluster::SimConnector,
    mutants::Mutant,
    outside::SimOutside,
    queue::SimReceiver,
    services::{SimBlobs, SimCharts, SimSecrets},
    store::SimStore,
    world::{Shape, Sim},
};

fn catalog() -> Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG
        .get_or_init(|| {
            let text = include_str!("../../../../templates/catalog.yaml");
            slipway_dag::parse(text, slipway_dag::MAX_TEMPLATE_BYTES)
                .ok()
                .and_then(|value| slipway_dag::template::check_catalog(value).ok())
                .expect("the catalog that is shipped is right")
        })
        .clone()
}

/// What handles messages: on AWS one for Helm, whose function may take longer, and one for the rest.
pub(super) fn apps(sim: &Sim) -> (App, App) {
    let (shape, epoch, legacy, is_forgetful) = {
        let world = sim.world();
        let is_forgetful = world.has(Mutant::SleepersAreForgotten);
        (world.shape, world.epoch, world.legacy, is_forgetful)
    };
    let app = |seconds: u64| {
        let mut settings = Settings::new(epoch.to_string());
        settings.use_pipeline_orchestration = !legacy;
        settings.eks = legacy;
        settings.alone = shape == Shape::Embedded && !is_forgetful;
        settings.invocation = Duration::from_secs(seconds);
        App::new(Services {
            store: Arc::new(SimStore(sim.clone())),
            receiver: Arc::new(SimReceiver(sim.clone())),
            secrets: Arc::new(SimSecrets(sim.clone())),
            blobs: Arc::new(SimBlobs(sim.clone())),
            charts: Arc::new(SimCharts(sim.clone())),
            connector: Arc::new(SimConnector(sim.clone())),
            outside: Arc::new(SimOutside(sim.clone())),
            clock: Arc::new(sim.clone()),
            ids: Arc::new(sim.clone()),
            catalog: catalog(),
            settings,
        })
    };
    match shape {
        Shape::Aws => (app(180), app(300)),
        Shape::Embedded => {
            let one = app(240);
            (one.clone(), one)
        }
    }
}
