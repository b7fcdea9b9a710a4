//! Why the API server refuses to make pods or claims for a controller.

/// Where refusals stand among the reasons: an explanation that is not more telling gives way to them.
pub(super) const RANK: usize = 3;

/// The reason, and the API server's message with what would help.
pub(super) fn explain(message: &str) -> (&'static str, String) {
    let message = message.trim();
    if let Some((_, rest)) = message.split_once("exceeded quota: ") {
        return (
            "quota exceeded",
            format!("quota {rest}; request less, or have the ResourceQuota raised"),
        );
    }
    if let Some((_, rest)) = message.split_once("failed quota: ") {
        return (
            "quota exceeded",
            format!("quota {rest}: a quota on requests or limits asks every container to set them"),
        );
    }
    if let Some((_, rest)) = message.split_once("violates PodSecurity ") {
        // The rules may be long, and what would help must not be cut off.
        return (
            "admission refused",
            format!(
                "set what is named here in the chart's security contexts, or relax the namespace's label \
                 pod-security.kubernetes.io/enforce: it violates PodSecurity {rest}"
            ),
        );
    }
    if let Some((_, rest)) = message.split_once("admission webhook ") {
        return ("admission refused", format!("webhook {rest}"));
    }
    if message.contains("failed calling webhook") {
        return (
            "admission refused",
            format!("{message}; the webhook itself does not answer: is what serves it running?"),
        );
    }
    if message.contains("ValidatingAdmissionPolicy") {
        return ("admission refused", message.to_owned());
    }
    if message.contains("error looking up service account") {
        return (
            "pod creation refused",
            format!("{message}; create the ServiceAccount, or correct its name in the values"),
        );
    }
    ("pod creation refused", message.to_owned())
}
