//! Identifiers. Each parses once; one that exists is valid.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A text that should have been an identifier and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {kind}: {expected}")]
pub struct InvalidId {
    text: String,
    kind: &'static str,
    expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
        )]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The first eight hexadecimal digits, which namespaces and release names carry.
            pub fn short(&self) -> String {
                self.0.simple().to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // Only the hyphenated form, so that one thing has one spelling in keys and addresses.
                match Uuid::try_parse(text) {
                    Ok(id) if text.len() == 36 => Ok(Self(id)),
                    _ => Err(InvalidId {
                        text: text.chars().take(64).collect(),
                        kind: $kind,
                        expected: "expected a UUID such as 8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b",
                    }),
                }
            }
        }
    };
}

uuid_id!(
    /// A deployment: a template being brought up on a cluster.
    DeploymentId,
    "a deployment id"
);
uuid_id!(
    /// An execution: one run of a DAG.
    ExecutionId,
    "an execution id"
);
uuid_id!(
    /// A job: one asynchronous piece of work on a cluster.
    JobId,
    "a job id"
);
uuid_id!(
    /// A registered cluster.
    ClusterId,
    "a cluster id"
);
uuid_id!(
    /// One request for a plan of a deployment.
    PlanRequestId,
    "the id of a request for a plan"
);
uuid_id!(
    /// One look at a cluster for what nobody owns there.
    LookId,
    "the id of a look"
);

/// Namespace of the UUIDv5 job ids: fixed for ever, because a repeated step must find its job again.
const JOB_NAMESPACE: Uuid = Uuid::from_u128(0x6d0c_96a0_52a1_4c0b_9a53_6e1d_0d1b_7f11);

impl JobId {
    /// The id of the job that attempt `attempt` (from 1) of a step creates: the same for every repeat.
    pub fn of_step(execution: ExecutionId, step: &str, attempt: u32) -> Self {
        Self(Uuid::new_v5(
            &JOB_NAMESPACE,
            format!("{execution}/{step}/{attempt}").as_bytes(),
        ))
    }
}

/// Whose data it is. Every key begins with it, so that another tenant's id is simply not found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
pub struct TenantId(String);

impl TenantId {
    /// The only tenant of an embedded control plane.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// The text, which is safe inside keys and paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TenantId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = !text.is_empty()
            && text.len() <= 63
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                text: text.chars().take(64).collect(),
                kind: "a tenant",
                expected: "expected 1 to 63 lower-case letters, digits and hyphens",
            })
        }
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_attempt_finds_its_job_and_the_next_attempt_does_not() {
        let execution: ExecutionId = "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap();
        assert_eq!(
            JobId::of_step(execution, "llm", 1),
            JobId::of_step(execution, "llm", 1)
        );
        assert_ne!(
            JobId::of_step(execution, "llm", 1),
            JobId::of_step(execution, "llm", 2)
        );
        assert_eq!(JobId::of_step(execution, "llm", 1).0.get_version_num(), 5);
    }

    #[test]
    fn only_the_hyphenated_spelling_is_an_id() {
        assert!("8f14e45fceea467fa0e62f6f0f1f4a1b".parse::<JobId>().is_err());
        assert!("../../etc/passwd".parse::<JobId>().is_err());
        assert!("a/b".parse::<TenantId>().is_err());
    }
}
