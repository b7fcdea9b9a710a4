//! What others do to the cluster, past Slipway, and how it then differs from what was applied.

use slipway_model::{DeploymentId, DriftKind, DriftedField, DriftedObject};
use slipway_ports::{
    AppliedState, ManagedNamespace, ManagedRelease, ObjectReference, Release, ReleaseStatus,
};

use super::{Cloud, Namespace, Revision, is_claim};
use crate::world::World;

/// Who changes what: people, and controllers that Slipway knows nothing of.
const CHANGES: [(&str, &str); 3] = [
    ("/spec/replicas", "kubectl-scale"),
    ("/spec/template/spec/containers/0/image", "kubectl-edit"),
    ("/metadata/annotations/patched", "some-operator"),
];

fn drifted(object: &ObjectReference, drift: DriftKind, message: &str) -> DriftedObject {
    DriftedObject {
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        drift,
        fields: Vec::new(),
        message: message.to_owned(),
    }
}

fn release_of(name: &str) -> Release {
    let (namespace, name) = name.split_once('/').unwrap_or_default();
    Release {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

impl Cloud {
    /// Where a release differs from what was applied, but for what is to be ignored.
    pub(crate) fn differences(&self, name: &str, applied: &AppliedState<'_>) -> Vec<DriftedObject> {
        let record = |message: &str| {
            let object = ObjectReference {
                api_version: String::new(),
                kind: "Release".to_owned(),
                namespace: applied.release.namespace.clone(),
                name: applied.release.name.clone(),
            };
            drifted(&object, DriftKind::Record, message)
        };
        let Some(newest) = self.newest(name) else {
            return vec![record("its record is gone")];
        };
        let mut found = Vec::new();
        if newest.labels.get("slipway-deployment").map(String::as_str) != Some(applied.deployment) {
            found.push(record("its record was written by somebody else"));
        } else if newest.status != ReleaseStatus::Deployed {
            found.push(record("its newest revision is not deployed"));
        } else if applied.revision.is_some_and(|revision| revision != newest.number) {
            found.push(record("its newest revision is another one"));
        }
        for object in &newest.objects {
            match self.objects.get(object) {
                None => found.push(drifted(object, DriftKind::Missing, "it is gone")),
                Some(there) => {
                    if let Some((path, manager)) = there.changed {
                        found.push(DriftedObject {
                            fields: vec![DriftedField {
                                path: path.to_owned(),
                                managers: vec![manager.to_owned()],
                            }],
                            ..drifted(object, DriftKind::Changed, "a field was changed")
                        });
                    }
                }
            }
        }
        found.retain(|object| {
            !applied
                .ignore
                .iter()
                .any(|ignored| ignored.paths.is_empty() && ignored.kind.as_ref() == Some(&object.kind))
        });
        found
    }

    /// What is labelled as Slipway's.
    pub(crate) fn managed(&self) -> (Vec<ManagedRelease>, Vec<ManagedNamespace>) {
        let releases = self.releases.keys().filter_map(|name| {
            let newest = self.newest(name)?;
            Some(ManagedRelease {
                release: release_of(name),
                status: newest.status,
                deployment: newest.labels.get("slipway-deployment")?.clone(),
            })
        });
        let namespaces = self.namespaces.iter().filter_map(|(name, namespace)| {
            Some(ManagedNamespace {
                name: name.clone(),
                deployment: namespace.created_for?.to_string(),
            })
        });
        (releases.collect(), namespaces.collect())
    }
}

impl World {
    fn some_object(&mut self) -> Option<ObjectReference> {
        let all: Vec<ObjectReference> = self
            .cloud
            .objects
            .iter()
            .filter(|(object, found)| {
                let newest = self.cloud.newest(&found.release);
                !is_claim(object)
                    && object.kind != "Service"
                    && newest.is_some_and(|newest| newest.objects.contains(object))
            })
            .map(|(object, _)| object.clone())
            .collect();
        let count = u32::try_from(all.len()).unwrap_or(0);
        (count > 0).then(|| all[self.choices.below(count) as usize].clone())
    }

    /// Somebody changes a field of an object. Nothing else changes by it.
    pub(crate) fn change_a_field(&mut self) {
        let change = self.choices.one_of(&CHANGES);
        if let Some(object) = self.some_object()
            && let Some(found) = self.cloud.objects.get_mut(&object)
        {
            found.changed = Some(change);
            let release = found.release.clone();
            self.say(format_args!(
                "somebody changes {} of {object} of {release}",
                change.0
            ));
            self.looks.touched.insert(release);
        }
    }

    /// Somebody puts everything back as it was.
    pub(crate) fn put_right(&mut self) {
        if let Some(saved) = self.looks.saved.clone() {
            self.say(format_args!("somebody puts everything right"));
            self.cloud.namespaces = saved.namespaces;
            self.cloud.releases = saved.releases;
            self.cloud.objects = saved.objects;
            for object in self.cloud.objects.values_mut() {
                object.changed = None;
            }
            self.looks.touched.clear();
        }
    }

    /// Somebody does whatever people do.
    pub(crate) fn meddle(&mut self) {
        let names: Vec<String> = self.cloud.releases.keys().cloned().collect();
        let count = u32::try_from(names.len()).unwrap_or(0);
        let release = (count > 0).then(|| names[self.choices.below(count) as usize].clone());
        match (self.choices.below(6), release) {
            (0, _) => self.change_a_field(),
            (1, _) => {
                if let Some(object) = self.some_object()
                    && let Some(found) = self.cloud.objects.remove(&object)
                {
                    self.say(format_args!("somebody deletes {object} of {}", found.release));
                    self.looks.touched.insert(found.release);
                }
            }
            (2, Some(release)) => {
                self.say(format_args!("somebody deletes the records of {release}"));
                self.cloud.releases.remove(&release);
                self.looks.touched.insert(release);
            }
            (3, Some(release)) => {
                self.say(format_args!("somebody fails an upgrade of {release}"));
                if let Some(all) = self.cloud.releases.get_mut(&release)
                    && let Some(newest) = all.iter_mut().max_by_key(|one| one.number)
                {
                    newest.status = ReleaseStatus::Failed;
                }
                self.looks.touched.insert(release);
            }
            (4, Some(release)) => {
                self.say(format_args!("somebody upgrades {release} past Slipway"));
                if let Some(all) = self.cloud.releases.get_mut(&release)
                    && let Some(newest) = all.iter_mut().max_by_key(|one| one.number)
                {
                    newest.labels.clear();
                }
                self.looks.touched.insert(release);
            }
            _ => {
                let serial = self.looks.strangers;
                self.looks.strangers += 1;
                let stranger = DeploymentId(uuid::Uuid::from_u128(0xdead_0000 + u128::from(serial)));
                let name = format!("stranger-{serial}");
                self.say(format_args!("another control plane makes {name}"));
                let namespace = Namespace {
                    created_for: Some(stranger),
                };
                self.cloud.namespaces.insert(name.clone(), namespace);
                let revision = Revision {
                    number: 1,
                    status: ReleaseStatus::Deployed,
                    labels: [("slipway-deployment".to_owned(), stranger.to_string())].into(),
                    objects: Vec::new(),
                    manifest: "web".to_owned(),
                    was_deployed: true,
                };
                self.cloud.releases.insert(format!("{name}/web"), vec![revision]);
            }
        }
    }
}
