//! What DynamoDB says that calls consume: the units that it is paid by.

use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{AfterDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextMut},
    },
    error::BoxError,
    operation::{
        batch_get_item::{BatchGetItemInput, BatchGetItemOutput},
        delete_item::{DeleteItemInput, DeleteItemOutput},
        get_item::{GetItemInput, GetItemOutput},
        put_item::{PutItemInput, PutItemOutput},
        query::{QueryInput, QueryOutput},
        update_item::{UpdateItemInput, UpdateItemOutput},
    },
    types::{ConsumedCapacity, ReturnConsumedCapacity},
};
use aws_smithy_runtime_api::client::interceptors::context::Output;

/// Units since they were last taken.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Units {
    /// Read units: half a unit is an eventually consistent read of 4 KB.
    pub(crate) read: f64,
    /// Write units of the table and its indexes: one is 1 KB.
    pub(crate) write: f64,
}

/// Asks for the consumed capacity of every call, and adds it up.
#[derive(Debug, Clone, Default)]
pub(crate) struct CapacityMeter {
    units: Arc<Mutex<Units>>,
}

impl CapacityMeter {
    pub(crate) fn take(&self) -> Units {
        std::mem::take(&mut *self.units.lock().unwrap())
    }

    fn add(&self, read: impl IntoIterator<Item = f64>, write: impl IntoIterator<Item = f64>) {
        let mut units = self.units.lock().unwrap();
        units.read += read.into_iter().sum::<f64>();
        units.write += write.into_iter().sum::<f64>();
    }
}

/// Asks, if the call is of this kind.
macro_rules! ask {
    ($input:ident: $($kind:ty),+) => {
        $(if let Some(input) = $input.downcast_mut::<$kind>() {
            input.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        })+
    };
}

fn consumed<T: Any + std::fmt::Debug + Send + Sync>(
    output: &Output,
    of: impl Fn(&T) -> Option<&ConsumedCapacity>,
) -> Option<f64> {
    of(output.downcast_ref::<T>()?)?.capacity_units
}

impl Intercept for CapacityMeter {
    fn name(&self) -> &'static str {
        "CapacityMeter"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input_mut();
        ask!(input: GetItemInput, QueryInput, BatchGetItemInput, PutItemInput, UpdateItemInput, DeleteItemInput);
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(output) = context.output_or_error() else {
            // A write that its condition refuses consumes what it would have written: small items here.
            self.add([], [1.0]);
            return Ok(());
        };
        self.add(
            [
                consumed(output, |output: &GetItemOutput| output.consumed_capacity()),
                consumed(output, |output: &QueryOutput| output.consumed_capacity()),
                consumed(output, |output: &BatchGetItemOutput| {
                    output.consumed_capacity().first()
                }),
            ]
            .into_iter()
            .flatten(),
            [
                consumed(output, |output: &PutItemOutput| output.consumed_capacity()),
                consumed(output, |output: &UpdateItemOutput| output.consumed_capacity()),
                consumed(output, |output: &DeleteItemOutput| output.consumed_capacity()),
            ]
            .into_iter()
            .flatten(),
        );
        Ok(())
    }
}
