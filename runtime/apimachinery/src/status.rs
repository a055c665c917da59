//! `Status`: the object with which an API server refuses, and the constructors that word a refusal as Kubernetes does.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::field::FieldError;
use crate::gvk::{GroupResource, Gvk};

/// Machine-readable reasons a client acts on, with the HTTP code each goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400: the request can't be read.
    BadRequest,
    /// 401: no or wrong credentials.
    Unauthorized,
    /// 403: known, and not allowed.
    Forbidden,
    /// 404: no such object or resource.
    NotFound,
    /// 405: the resource has no such verb.
    MethodNotAllowed,
    /// 406: no content type that the client takes.
    NotAcceptable,
    /// 409: a create met an object of that name.
    AlreadyExists,
    /// 409: the object changed meanwhile, or a precondition failed.
    Conflict,
    /// 410: the address or revision is gone for good.
    Gone,
    /// 410: the revision is older than what is kept.
    Expired,
    /// 413: the body is over the limit.
    RequestEntityTooLarge,
    /// 415: the body's content type is none the server reads.
    UnsupportedMediaType,
    /// 422: well-formed, and breaks rules that the causes list.
    Invalid,
    /// 429: come again later.
    TooManyRequests,
    /// 500: the server's own fault.
    InternalError,
    /// 503: not now.
    ServiceUnavailable,
    /// 504: it took too long, or the asked revision is not here yet.
    Timeout,
}

impl Reason {
    /// The text in `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
        }
    }

    /// The HTTP code.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// One entry of `details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// Such as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Text for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field, if there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a `Status` is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Object name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Plural resource, or the kind for validation errors.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID of the object, on deletes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single complaints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds after which a retry makes sense.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A `v1.Status`: an outcome that is no object. Serialises with `kind` and `apiVersion`; reads any Kubernetes server's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `Success` or `Failure`.
    pub status: String,
    /// Text for people.
    pub message: String,
    /// One of [`Reason`]'s texts, or another server's own.
    pub reason: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// HTTP code.
    pub code: u16,
    /// `metadata.continue`: how to go on with a list whose snapshot is gone.
    #[serde(skip)]
    pub continue_token: String,
}

impl Status {
    /// A failure with a reason, its code and a message.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status: "Failure".into(),
            message: message.into(),
            reason: reason.as_str().into(),
            details: None,
            code: reason.code(),
            continue_token: String::new(),
        }
    }

    /// A delete that is done.
    pub fn deleted(resource: &GroupResource, name: &str, uid: &str) -> Self {
        let details = Details { uid: uid.into(), ..details_of(resource, name) };
        Self { status: "Success".into(), details: Some(Box::new(details)), code: 200, ..Self::default() }
    }

    /// 404 for an object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::about(Reason::NotFound, resource, name, format!("{resource} {name:?} not found"))
    }

    /// 404 for an address.
    pub fn no_such_path() -> Self {
        Self::failure(Reason::NotFound, "the server could not find the requested resource")
    }

    /// 409 for a create.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::about(Reason::AlreadyExists, resource, name, format!("{resource} {name:?} already exists"))
    }

    /// 409 with a reason of one's own.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::about(Reason::Conflict, resource, name, message)
    }

    /// 409 since the object has another revision by now.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403 for an object or, with an empty name, for a whole resource.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {name:?} is forbidden: {why}")
        };
        Self::about(Reason::Forbidden, resource, name, message)
    }

    /// 422 with one cause per complaint.
    pub fn invalid(kind: &Gvk, name: &str, errors: &[FieldError]) -> Self {
        let text = match errors {
            [one] => one.to_string(),
            many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let mut status = Self::failure(Reason::Invalid, format!("{} {name:?} is invalid: {text}", kind_group(kind)));
        status.details = Some(Box::new(Details {
            name: name.into(),
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..Details::default()
        }));
        status
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(Reason::BadRequest, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(Reason::Unauthorized, "Unauthorized")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::failure(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
    }

    /// 410: what the client holds is too old; it must list anew.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(Reason::Expired, message)
    }

    /// 500, with the message for the operator.
    pub fn internal(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let mut status = Self::failure(Reason::InternalError, format!("Internal error occurred: {message}"));
        status.details =
            Some(Box::new(Details { causes: vec![Cause { message, ..Cause::default() }], ..Details::default() }));
        status
    }

    /// 504: it took too long.
    pub fn timeout(message: &str) -> Self {
        let mut status = Self::failure(Reason::Timeout, format!("Timeout: {message}"));
        status.details = Some(Box::default());
        status
    }

    /// 504: the asked revision is in the future.
    pub fn too_large_revision(asked: i64, current: i64) -> Self {
        let mut status =
            Self::failure(Reason::Timeout, format!("Timeout: Too large resource version: {asked}, current: {current}"));
        status.details = Some(Box::new(Details {
            causes: vec![Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                ..Cause::default()
            }],
            retry_after_seconds: 1,
            ..Details::default()
        }));
        status
    }

    /// True if this reports the given reason.
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason.as_str()
    }

    /// As a JSON object.
    pub fn to_value(&self) -> Value {
        let mut object = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": self.status});
        if !self.continue_token.is_empty() {
            object["metadata"]["continue"] = json!(self.continue_token);
        }
        if !self.message.is_empty() {
            object["message"] = json!(self.message);
        }
        if !self.reason.is_empty() {
            object["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            object["details"] = json!(details);
        }
        if self.code != 0 && self.status != "Success" {
            object["code"] = json!(self.code);
        }
        object
    }

    fn about(reason: Reason, resource: &GroupResource, name: &str, message: String) -> Self {
        let mut status = Self::failure(reason, message);
        status.details = Some(Box::new(details_of(resource, name)));
        status
    }
}

fn details_of(resource: &GroupResource, name: &str) -> Details {
    Details { name: name.into(), group: resource.group.clone(), kind: resource.resource.clone(), ..Details::default() }
}

fn kind_group(kind: &Gvk) -> String {
    if kind.group.is_empty() { kind.kind.clone() } else { format!("{}.{}", kind.kind, kind.group) }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
