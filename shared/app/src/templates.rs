//! Published templates.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_model::{Component, FieldError, Template, TenantId};
use slipway_ports::{Guard, Item, Listing, Put};
use utoipa::ToSchema;

use crate::{App, AppError, Caller, ListQuery, Page, Role, keys, names};

/// A template and the versions of it that were published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateVersions {
    /// The newest version: the greatest stable one, or the greatest if none is stable.
    pub newest: Template,
    /// All versions, greatest first.
    pub versions: Vec<String>,
}

impl App {
    /// Publishes a template. The same content under the same name and version again changes nothing.
    ///
    /// # Errors
    /// 403 below `admin`, 422 with everything that is wrong, 409 when the version exists with other content.
    pub async fn publish_template(&self, caller: &Caller, template: Value) -> Result<Template, AppError> {
        caller.require(Role::Admin)?;
        let template = self.check_template(template)?;
        let key = keys::template(&caller.tenant, &template.name, &template.version.to_string());
        let mut session = self.store.session();
        if let Put::Lost(Some(stored)) = session.put(&key, Item::of(&template), Guard::Absent).await?
            && stored.read::<Template>()? != template
        {
            return Err(AppError::conflict(format!(
                "template '{}' has a version {} with other content already; published versions do not change, so \
                 publish this one under a new version",
                template.name, template.version
            )));
        }
        session.settle().await?;
        self.raise_head(&caller.tenant, &template.name).await?;
        Ok(template)
    }

    /// Checks a template without publishing it.
    ///
    /// # Errors
    /// 422 with everything that is wrong.
    pub fn validate_template(&self, _caller: &Caller, template: Value) -> Result<Template, AppError> {
        self.check_template(template)
    }

    fn check_template(&self, template: Value) -> Result<Template, AppError> {
        let invalid = |errors| AppError::invalid("the template is invalid", errors);
        let template = slipway_dag::template::check(template, &self.catalog).map_err(invalid)?;
        let refused = |(index, component): (usize, &Component)| {
            let refused = self.refused_host(&component.chart.as_ref()?.reference)?;
            Some(FieldError::new(format!("components[{index}].chart.ref"), refused))
        };
        let errors: Vec<FieldError> = template
            .components
            .iter()
            .enumerate()
            .filter_map(refused)
            .collect();
        if errors.is_empty() {
            Ok(template)
        } else {
            Err(invalid(errors))
        }
    }

    /// The newest version of every template.
    ///
    /// # Errors
    /// 400 for a bad cursor, 422 for a bad limit.
    pub async fn templates(&self, caller: &Caller, query: &ListQuery) -> Result<Page<Template>, AppError> {
        let list = keys::list(&caller.tenant, "templates");
        let (after, limit) = (query.position()?, query.page_size()?);
        let page = self.store.list(&list, &[], after.as_deref(), limit).await?;
        Page::read(&page)
    }

    /// A template's newest version, and which versions there are.
    ///
    /// # Errors
    /// 404.
    pub async fn template(&self, caller: &Caller, name: &str) -> Result<TemplateVersions, AppError> {
        let missing = || no_template(name, None);
        names::check_label(name, 63).map_err(|_| missing())?;
        let mut versions = self.versions(&caller.tenant, name).await?;
        versions.sort_by(|a, b| b.cmp(a));
        let newest = newest(&versions).ok_or_else(missing)?;
        let newest = self
            .load_template(&caller.tenant, name, newest)
            .await?
            .ok_or_else(missing)?;
        Ok(TemplateVersions {
            newest,
            versions: versions.iter().map(ToString::to_string).collect(),
        })
    }

    /// One version of a template.
    ///
    /// # Errors
    /// 404.
    pub async fn template_version(
        &self,
        caller: &Caller,
        name: &str,
        version: &str,
    ) -> Result<Template, AppError> {
        let missing = || no_template(name, Some(version));
        names::check_label(name, 63).map_err(|_| missing())?;
        let parsed = parse_version(version).ok_or_else(missing)?;
        self.load_template(&caller.tenant, name, &parsed)
            .await?
            .ok_or_else(missing)
    }

    /// Deletes one version of a template, or all of them.
    ///
    /// # Errors
    /// 403 below `admin`, 404, 409 while a deployment that is not `DELETED` uses it.
    pub async fn delete_template(
        &self,
        caller: &Caller,
        name: &str,
        version: Option<&str>,
    ) -> Result<(), AppError> {
        caller.require(Role::Admin)?;
        let tenant = &caller.tenant;
        let doomed = match version {
            Some(version) => vec![self.template_version(caller, name, version).await?.version],
            None => {
                let published = self.template(caller, name).await?.versions;
                published
                    .iter()
                    .filter_map(|version| parse_version(version))
                    .collect()
            }
        };
        for version in &doomed {
            self.refuse_used_template(tenant, name, version).await?;
        }
        for version in &doomed {
            let key = keys::template(tenant, name, &version.to_string());
            let Some(stored) = self.store.get(&key).await? else {
                continue;
            };
            let mut session = self.store.session();
            session.delete(&key, Guard::Any).await?;
            session.settle().await?;
            // A deployment that was being created meanwhile either saw that the template is gone, or is seen here.
            if let Err(used) = self.refuse_used_template(tenant, name, version).await {
                let body = stored.body.clone();
                let mut session = self.store.session();
                let item = Item {
                    body,
                    ..Item::default()
                };
                session.put(&key, item, Guard::Absent).await?;
                session.settle().await?;
                return Err(used);
            }
        }
        self.raise_head(tenant, name).await
    }

    async fn refuse_used_template(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &Version,
    ) -> Result<(), AppError> {
        let text = version.to_string();
        let partition = keys::template_head(tenant, name).partition;
        let uses = keys::template_uses(&text);
        let Some(user) = self.user_of(tenant, &partition, &uses).await? else {
            return Ok(());
        };
        Err(AppError::conflict(format!(
            "template '{name}' version {version} is used by deployment {user}; delete the deployment first"
        )))
    }

    /// Makes the head item of a template, which stands in the list, the newest version that there is; removes it
    /// with the last one.
    async fn raise_head(&self, tenant: &TenantId, name: &str) -> Result<(), AppError> {
        let key = keys::template_head(tenant, name);
        loop {
            let head = self.store.get(&key).await?;
            let guard = head
                .as_ref()
                .map_or(Guard::Absent, |head| Guard::Version(head.version));
            let versions = self.versions(tenant, name).await?;
            let mut session = self.store.session();
            let put = match newest(&versions) {
                None if head.is_none() => return Ok(()),
                None => session.delete(&key, guard).await?,
                Some(newest) => {
                    let newest = keys::template(tenant, name, &newest.to_string());
                    let Some(newest) = session.get(&newest).await? else {
                        // Deleted between the two reads.
                        continue;
                    };
                    if head.is_some_and(|head| head.body == newest.body) {
                        return Ok(());
                    }
                    let item = Item {
                        body: newest.body,
                        ..Item::default()
                    };
                    let listing = Listing {
                        list: keys::list(tenant, "templates"),
                        position: keys::position(self.clock.now(), name),
                        attributes: BTreeMap::new(),
                    };
                    session.put(&key, item.listed(listing), guard).await?
                }
            };
            session.settle().await?;
            if let Put::Won(_) = put {
                return Ok(());
            }
        }
    }

    async fn versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<Version>, AppError> {
        let partition = keys::template_head(tenant, name).partition;
        let mut versions = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.query(&partition, "v/", after.as_deref(), 100).await?;
            let sorts = page.items.iter().map(|stored| stored.key.sort.as_str());
            versions.extend(sorts.filter_map(|sort| parse_version(sort.strip_prefix("v/")?)));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(versions),
            }
        }
    }

    /// A version of a template, if there is one.
    pub(crate) async fn load_template(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &Version,
    ) -> Result<Option<Template>, AppError> {
        match self
            .store
            .get(&keys::template(tenant, name, &version.to_string()))
            .await?
        {
            Some(stored) => Ok(Some(stored.read()?)),
            None => Ok(None),
        }
    }

    /// The template that `name` or `name@version` means, the newest version if none is given. `Err` holds what is
    /// wrong, for people.
    pub(crate) async fn find_template(
        &self,
        tenant: &TenantId,
        wanted: &str,
        version: Option<&str>,
    ) -> Result<Result<Template, String>, AppError> {
        let (name, inline) = match wanted.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (wanted, None),
        };
        if let (Some(inline), Some(version)) = (inline, version)
            && inline != version
        {
            return Ok(Err(format!(
                "it asks for version {} and template_version for {}; give one of them",
                names::shown(inline),
                names::shown(version)
            )));
        }
        if let Err(message) = names::check_label(name, 63) {
            return Ok(Err(message));
        }
        let version = match inline.or(version) {
            Some(version) => match parse_version(version) {
                Some(version) => Some(version),
                None => {
                    return Ok(Err(format!(
                        "'{}' is not a version: expected a semantic version such as 1.0.0",
                        names::shown(version)
                    )));
                }
            },
            None => newest(&self.versions(tenant, name).await?).cloned(),
        };
        let found = match &version {
            Some(version) => self.load_template(tenant, name, version).await?,
            None => None,
        };
        Ok(found
            .ok_or_else(|| no_template_message(name, version.map(|version| version.to_string()).as_deref())))
    }
}

/// The greatest stable version, or the greatest if none is stable.
fn newest(versions: &[Version]) -> Option<&Version> {
    versions
        .iter()
        .max_by_key(|version| (version.pre.is_empty(), *version))
}

fn parse_version(text: &str) -> Option<Version> {
    // Longer ones would not fit into a key.
    if text.len() > 128 { None } else { text.parse().ok() }
}

fn no_template(name: &str, version: Option<&str>) -> AppError {
    AppError::not_found(match version {
        Some(version) => format!(
            "template '{}' version '{}'",
            names::shown(name),
            names::shown(version)
        ),
        None => format!("template '{}'", names::shown(name)),
    })
}

fn no_template_message(name: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("there is no version {version} of template '{name}'; publish it first"),
        None => format!("there is no template '{name}'; publish it first"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_candidate_is_not_the_newest_while_a_stable_version_is_there() {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let of = |texts: &[&str]| newest(&read(texts)).map(ToString::to_string);
        assert_eq!(of(&["1.10.0", "1.9.0", "2.0.0-rc.1"]).as_deref(), Some("1.10.0"));
        assert_eq!(of(&["2.0.0-rc.1", "2.0.0-rc.2"]).as_deref(), Some("2.0.0-rc.2"));
        assert_eq!(of(&[]), None);
    }
}
