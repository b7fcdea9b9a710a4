//! Sessions: each write is a call of its own; messages go out when the session settles.
//!
//! The message that a handler was given comes back unless the handler ends well, and then everything is done again.
//! So a session that is dropped loses its sends and nothing else.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    operation::{delete_item::DeleteItemError, put_item::PutItemError, update_item::UpdateItemError},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use slipway_model::{Message, Queue, Timestamp};
use slipway_ports::{Arrivals, Guard, Item, Key, Put, Session, StoreError, Stored};

use crate::{
    row::{Attributes, Row, join_attributes, key_attributes, name, number, seconds},
    sending::{Outgoing, send_all},
    store::Inner,
};

pub(crate) struct DynamoSession {
    inner: Arc<Inner>,
    sends: Vec<Outgoing>,
    joins_expire_at: Option<Timestamp>,
}

impl DynamoSession {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            sends: Vec::new(),
            joins_expire_at: None,
        }
    }
}

impl Inner {
    /// Writes the whole item if nothing stands there, or this version.
    async fn put_guarded(&self, row: &Row, expected: Option<u64>) -> Result<Put, StoreError> {
        let mut put = self
            .clients
            .dynamodb()
            .put_item()
            .table_name(&self.table)
            .set_item(Some(row.to_attributes()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        put = match expected {
            None => put
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", name::PARTITION),
            Some(version) => put
                .condition_expression("#version = :expected")
                .expression_attribute_names("#version", name::VERSION)
                .expression_attribute_values(":expected", AttributeValue::N(version.to_string())),
        };
        let Err(error) = put.send().await else {
            return Ok(Put::Won(row.version()));
        };
        let Some(PutItemError::ConditionalCheckFailedException(lost)) = error.as_service_error() else {
            return Err(self.failed("DynamoDB PutItem", error));
        };
        let current = lost.item.clone().map(Row::from_attributes).transpose()?;
        // The SDK repeats a request whose answer got lost: then what it lost against is itself.
        if let Some(current) = &current
            && current.written_by() == row.written_by()
        {
            return Ok(Put::Won(current.version()));
        }
        Ok(Put::Lost(current.map(Row::into_stored)))
    }

    /// Writes the whole item over whatever stands there.
    async fn put_over(&self, key: &Key, row: &Row) -> Result<Put, StoreError> {
        let mut update = self
            .clients
            .dynamodb()
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key_attributes(key)?))
            .expression_attribute_names("#version", name::VERSION)
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .expression_attribute_values(":zero", AttributeValue::N("0".to_owned()))
            .return_values(ReturnValue::UpdatedNew);
        let mut set = vec!["#version = if_not_exists(#version, :zero) + :one".to_owned()];
        let mut attributes = row.to_attributes();
        for taken in [name::PARTITION, name::SORT, name::VERSION] {
            attributes.remove(taken);
        }
        let absent: Vec<String> = name::OPTIONAL
            .into_iter()
            .filter(|optional| !attributes.contains_key(*optional))
            .map(|optional| format!("#{optional}"))
            .collect();
        for name in name::OPTIONAL.into_iter().chain([name::BODY, name::WRITTEN_BY]) {
            update = update.expression_attribute_names(format!("#{name}"), name);
        }
        for (name, value) in attributes {
            set.push(format!("#{name} = :{name}"));
            update = update.expression_attribute_values(format!(":{name}"), value);
        }
        let mut expression = format!("SET {}", set.join(", "));
        if !absent.is_empty() {
            expression.push_str(&format!(" REMOVE {}", absent.join(", ")));
        }
        let answer = update
            .update_expression(expression)
            .send()
            .await
            .map_err(|error| self.failed("DynamoDB UpdateItem", error))?;
        answer
            .attributes
            .and_then(|updated| number(&updated, name::VERSION))
            .map(Put::Won)
            .ok_or_else(|| StoreError::Corrupt {
                key: key.to_string(),
                source: "DynamoDB did not say which version it has now".into(),
            })
    }

    async fn delete(&self, key: &Key, guard: Guard) -> Result<Put, StoreError> {
        let mut delete = self
            .clients
            .dynamodb()
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key_attributes(key)?))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        delete = match guard {
            Guard::Any => delete,
            Guard::Absent => delete
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", name::PARTITION),
            Guard::Version(version) => delete
                .condition_expression("#version = :expected")
                .expression_attribute_names("#version", name::VERSION)
                .expression_attribute_values(":expected", AttributeValue::N(version.to_string())),
        };
        let Err(error) = delete.send().await else {
            return Ok(Put::Won(0));
        };
        let Some(DeleteItemError::ConditionalCheckFailedException(lost)) = error.as_service_error() else {
            return Err(self.failed("DynamoDB DeleteItem", error));
        };
        let current = lost.item.clone().map(Row::from_attributes).transpose()?;
        Ok(Put::Lost(current.map(Row::into_stored)))
    }

    async fn arrive(
        &self,
        join: &Key,
        slot: u8,
        ok: bool,
        expires_at: Option<Timestamp>,
    ) -> Result<Arrivals, StoreError> {
        let set = if ok { "#ok" } else { "#bad" };
        let mut arrive = self
            .clients
            .dynamodb()
            .update_item()
            .table_name(&self.table)
            .set_key(Some(join_attributes(join)?))
            .condition_expression("NOT contains(#ok, :slot) AND NOT contains(#bad, :slot)")
            .expression_attribute_names("#ok", name::OK)
            .expression_attribute_names("#bad", name::BAD)
            .expression_attribute_values(":slot", AttributeValue::N(slot.to_string()))
            .expression_attribute_values(":slots", AttributeValue::Ns(vec![slot.to_string()]))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        arrive = match expires_at {
            Some(at) => arrive
                .update_expression(format!("ADD {set} :slots SET #expires = :expires"))
                .expression_attribute_names("#expires", name::EXPIRES)
                .expression_attribute_values(":expires", AttributeValue::N(seconds(at).to_string())),
            None => arrive.update_expression(format!("ADD {set} :slots")),
        };
        let attributes = match arrive.send().await {
            Ok(answer) => answer.attributes,
            Err(error) => match error.as_service_error() {
                // The slot arrived before: these are the sets as they are.
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => refused.item.clone(),
                _ => return Err(self.failed("DynamoDB UpdateItem", error)),
            },
        };
        Ok(attributes.as_ref().map(arrivals).unwrap_or_default())
    }
}

fn arrivals(attributes: &Attributes) -> Arrivals {
    let bits = |name: &str| {
        let Some(Ok(slots)) = attributes.get(name).map(AttributeValue::as_ns) else {
            return 0;
        };
        slots
            .iter()
            .filter_map(|slot| 1_u32.checked_shl(slot.parse().ok()?))
            .fold(0, |bits, bit| bits | bit)
    };
    Arrivals {
        ok: bits(name::OK),
        bad: bits(name::BAD),
    }
}

#[async_trait]
impl Session for DynamoSession {
    async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.inner.get(key).await
    }

    async fn put(&mut self, key: &Key, item: Item, guard: Guard) -> Result<Put, StoreError> {
        let expected = match guard {
            Guard::Version(version) => Some(version),
            Guard::Absent | Guard::Any => None,
        };
        let row = Row::new(key, item, expected.unwrap_or(0) + 1, self.inner.next_write())?;
        match guard {
            Guard::Any => self.inner.put_over(key, &row).await,
            Guard::Absent | Guard::Version(_) => self.inner.put_guarded(&row, expected).await,
        }
    }

    async fn delete(&mut self, key: &Key, guard: Guard) -> Result<Put, StoreError> {
        self.inner.delete(key, guard).await
    }

    async fn arrive(&mut self, join: &Key, slot: u8, ok: bool) -> Result<Arrivals, StoreError> {
        assert!(slot < 32, "slot {slot} of join {join}: slots are 0 to 31");
        self.inner.arrive(join, slot, ok, self.joins_expire_at).await
    }

    fn joins_expire_at(&mut self, at: Timestamp) {
        self.joins_expire_at = Some(at);
    }

    async fn arrivals(&mut self, join: &Key) -> Result<Arrivals, StoreError> {
        let inner = &self.inner;
        let answer = inner
            .clients
            .dynamodb()
            .get_item()
            .table_name(&inner.table)
            .set_key(Some(join_attributes(join)?))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| inner.failed("DynamoDB GetItem", error))?;
        Ok(answer.item.as_ref().map(arrivals).unwrap_or_default())
    }

    fn send(&mut self, queue: Queue, message: Message, delay: Duration) {
        self.sends.push(Outgoing {
            queue,
            body: message.to_body(),
            delay,
        });
    }

    async fn settle(self: Box<Self>) -> Result<(), StoreError> {
        send_all(&self.inner.clients, &self.inner.queues, self.sends).await
    }
}
