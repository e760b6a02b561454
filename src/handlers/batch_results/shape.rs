//! The members of a line of results that fill a column, from the outside in.

use std::borrow::Cow;

use serde::de::MapAccess;

use crate::api::MessageFields;
use crate::json::{self, Shape};

#[derive(Default)]
pub(super) struct Line<'a> {
    pub(super) custom_id: Option<Cow<'a, str>>,
    pub(super) result: Outcome<'a>,
}

impl<'de> Shape<'de> for Option<Line<'de>> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut line = Line::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "custom_id" => line.custom_id = json::value(&mut members)?,
                "result" => line.result = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(Some(line))
    }
}

#[derive(Default)]
pub(super) struct Outcome<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) message: MessageFields<'a>,
    pub(super) error: Envelope<'a>,
}

impl<'de> Shape<'de> for Outcome<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut outcome = Outcome::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => outcome.kind = json::value(&mut members)?,
                "message" => outcome.message = json::value(&mut members)?,
                "error" => outcome.error = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(outcome)
    }
}

/// An error of the API. It names the fault one level further in; a flat one is read as well.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) own: Fault<'a>,
    pub(super) inner: Option<Fault<'a>>,
}

impl<'de> Shape<'de> for Envelope<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => envelope.own.kind = json::value(&mut members)?,
                "message" => envelope.own.message = json::value(&mut members)?,
                "error" => envelope.inner = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(envelope)
    }
}

#[derive(Default)]
pub(super) struct Fault<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) message: Option<Cow<'a, str>>,
}

impl<'de> Shape<'de> for Option<Fault<'de>> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut fault = Fault::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => fault.kind = json::value(&mut members)?,
                "message" => fault.message = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(Some(fault))
    }
}
