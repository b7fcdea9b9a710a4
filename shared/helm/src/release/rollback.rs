//! Which revision a rollback goes to.

use slipway_ports::{Release, ReleaseStatus, TargetError};

/// The revision `wanted`, or the newest earlier one that was ever deployed. `known` is newest first.
pub(crate) fn rollback_target(
    release: &Release,
    known: &[(u32, ReleaseStatus)],
    wanted: Option<u32>,
) -> Result<u32, TargetError> {
    let Some((_, earlier)) = known.split_first() else {
        return Err(TargetError::permanent(format!(
            "release {release} does not exist: nothing to roll back"
        )));
    };
    let was_deployed = |status| matches!(status, ReleaseStatus::Deployed | ReleaseStatus::Superseded);
    match wanted {
        None => earlier
            .iter()
            .find(|(_, status)| was_deployed(*status))
            .map(|(number, _)| *number)
            .ok_or_else(|| {
                TargetError::permanent(format!(
                    "release {release} has no earlier revision that was deployed"
                ))
            }),
        Some(wanted) if known.iter().any(|(number, _)| *number == wanted) => Ok(wanted),
        Some(wanted) => {
            let numbers: Vec<String> = known.iter().map(|(number, _)| number.to_string()).collect();
            Err(TargetError::permanent(format!(
                "release {release} has no revision {wanted} any more; it has: {}",
                numbers.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_revision_the_newest_good_one_before_is_taken() {
        use ReleaseStatus::{Deployed, Failed, Superseded};
        let release = Release {
            namespace: "ns".into(),
            name: "r".into(),
        };
        let target = |known: &[(u32, ReleaseStatus)], wanted| rollback_target(&release, known, wanted);
        assert_eq!(
            target(&[(4, Deployed), (3, Failed), (2, Superseded)], None).unwrap(),
            2
        );
        assert_eq!(
            target(&[(4, Failed), (3, Deployed), (2, Superseded)], None).unwrap(),
            3
        );
        assert_eq!(target(&[(4, Deployed), (3, Failed)], Some(3)).unwrap(), 3);
        assert!(target(&[(1, Deployed)], None).is_err());
        assert!(target(&[], Some(1)).is_err());
        let gone = target(&[(4, Deployed), (3, Failed)], Some(1)).unwrap_err();
        assert!(gone.to_string().ends_with("it has: 4, 3"), "{gone}");
    }
}
