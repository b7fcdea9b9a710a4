//! Who calls.

use serde::{Deserialize, Serialize};
use slipway_model::{Problem, ProblemType, TenantId};

use crate::AppError;

/// What a caller may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read.
    Viewer,
    /// Deploy, stop, approve.
    Deployer,
    /// Publish templates, register clusters, delete both.
    Admin,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

/// Who calls, from the claims of the token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose data the call may see.
    pub tenant: TenantId,
    /// Who it is.
    pub user_id: String,
    /// What the caller may do.
    pub role: Role,
}

impl Caller {
    /// Refuses callers below `role`.
    ///
    /// # Errors
    /// A 403 problem that names the role that the call needs.
    pub fn require(&self, role: Role) -> Result<(), AppError> {
        if self.role >= role {
            return Ok(());
        }
        let detail = format!(
            "this call needs the role '{}'; the caller has '{}'",
            role.as_str(),
            self.role.as_str()
        );
        Err(Problem::new(ProblemType::Forbidden, detail).into())
    }
}
