//! Whether the table is there, and is one of this program.

use aws_sdk_dynamodb::types::{KeySchemaElement, KeyType, TableDescription};

use crate::{clients::Clients, error::SetupError, row::name};

/// The index of due items.
pub(crate) const DUE_INDEX: &str = "due";
/// The index of listed items.
pub(crate) const LIST_INDEX: &str = "list";

/// Looks at the table that `SLIPWAY_TABLE` names.
///
/// # Errors
/// When it is absent, is not one of this program, or cannot be looked at.
pub(crate) async fn check(clients: &Clients, table: &str) -> Result<(), SetupError> {
    let description = describe(clients, table).await?;
    check_shape(&description).map_err(|reason| SetupError::WrongTable {
        table: table.to_owned(),
        reason,
    })
}

async fn describe(clients: &Clients, table: &str) -> Result<TableDescription, SetupError> {
    let region = clients.region().to_owned();
    let answer = clients.dynamodb().describe_table().table_name(table).send().await;
    match answer {
        Ok(answer) => answer.table.ok_or_else(|| SetupError::WrongTable {
            table: table.to_owned(),
            reason: "DynamoDB says nothing about it".to_owned(),
        }),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            Err(SetupError::NoTable {
                table: table.to_owned(),
                region,
            })
        }
        Err(error) => Err(SetupError::Unreachable {
            table: table.to_owned(),
            region,
            source: Box::new(error),
        }),
    }
}

/// What a table lacks of the keys and indexes that this program uses, if anything.
fn check_shape(table: &TableDescription) -> Result<(), String> {
    let has = |schema: &[KeySchemaElement], hash: &str, range: &str| {
        let is = |name: &str, kind: &KeyType| {
            schema
                .iter()
                .any(|element| element.attribute_name() == name && element.key_type() == kind)
        };
        is(hash, &KeyType::Hash) && is(range, &KeyType::Range)
    };
    if !has(table.key_schema(), name::PARTITION, name::SORT) {
        return Err("its key is not pk and sk".to_owned());
    }
    for (index, hash, range) in [
        (DUE_INDEX, name::DUE_SHARD, name::DUE_AT),
        (LIST_INDEX, name::LIST, name::POSITION),
    ] {
        let found = table
            .global_secondary_indexes()
            .iter()
            .any(|found| found.index_name() == Some(index) && has(found.key_schema(), hash, range));
        if !found {
            return Err(format!("it has no index '{index}' of {hash} and {range}"));
        }
    }
    Ok(())
}
