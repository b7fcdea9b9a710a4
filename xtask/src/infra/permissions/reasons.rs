//! Why something is allowed that no record shows.

/// What is allowed although no function calls it where calls are recorded: functions, a statement of theirs, an action,
/// and why. `*` stands for all.
pub(super) const UNRECORDED: &[(&str, &str, &str, &str)] = &[
    ("*", "Logs", "*", "Lambda calls it with the function's role"),
    ("*", "Traces", "*", "Lambda calls it with the function's role"),
    (
        "*",
        "NetworkInterfaces",
        "*",
        "Lambda calls it with the function's role, in a VPC only",
    ),
    (
        "*",
        "EncryptedData",
        "*",
        "DynamoDB, S3, SQS and Secrets Manager call it with the function's role",
    ),
    (
        "*",
        "Receive",
        "sqs:ReceiveMessage",
        "the event source calls it with the function's role",
    ),
    (
        "*",
        "Receive",
        "sqs:GetQueueAttributes",
        "the event source calls it with the function's role",
    ),
    (
        "*",
        "Receive",
        "sqs:DeleteMessage",
        "the event source calls it with the function's role",
    ),
    (
        "*",
        "AbsentBlobs",
        "s3:ListBucket",
        "S3 asks for it when an object is absent",
    ),
    (
        "*",
        "Secrets",
        "secretsmanager:RestoreSecret",
        "only for a secret that is put again while it is being deleted",
    ),
    (
        "*",
        "ForgottenSecrets",
        "*",
        "only in the function in which the deletion of a deployment happens to end",
    ),
    (
        "*",
        "ForgottenBlobs",
        "*",
        "only in the function in which the deletion of a deployment happens to end",
    ),
    (
        "templates-api",
        "Blobs",
        "*",
        "only for answers that are too large for an item",
    ),
    (
        "jobs-api",
        "Blobs",
        "*",
        "only for answers that are too large for an item, and clusters of type render",
    ),
    (
        "clusters-api",
        "Blobs",
        "*",
        "only for answers that are too large for an item, and clusters of type render",
    ),
    (
        "executions-api",
        "Blobs",
        "*",
        "only for plans and answers that are too large for an item",
    ),
    (
        "plan-dag",
        "Blobs",
        "*",
        "only for plans that are too large for an item",
    ),
    (
        "execute-step",
        "Blobs",
        "*",
        "only for plans and outputs that are too large for an item",
    ),
    (
        "handle-events",
        "Blobs",
        "*",
        "only for plans and outputs that are too large for an item",
    ),
    (
        "track-deployments",
        "Blobs",
        "*",
        "only for plans and outputs that are too large for an item",
    ),
    (
        "sync-deployments",
        "Blobs",
        "*",
        "only for plans and outputs that are too large for an item",
    ),
    (
        "plan-dag",
        "Table",
        "dynamodb:DeleteItem",
        "only for a deployment that is deleted while it is planned",
    ),
    (
        "execute-step",
        "Table",
        "dynamodb:DeleteItem",
        "only when the last try of a deletion is given up",
    ),
    (
        "handle-events",
        "Table",
        "dynamodb:DeleteItem",
        "only when the last try of a deletion is given up",
    ),
];
