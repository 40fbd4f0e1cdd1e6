//! What an answer of the store means: kind, class, and what to do about it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use walport_engine::error::{Class, Error, Kind};

use crate::http::xml;

/// A request that did not succeed.
#[derive(Debug)]
pub struct Trouble {
    /// The status of the answer; `None` if there was none.
    pub status: Option<StatusCode>,
    /// The store's own word for it: `NoSuchKey`. Empty if it gave none.
    pub code: String,
    /// The error, without operation and key.
    pub error: Error,
    /// The request may have taken effect all the same.
    pub ambiguous: bool,
}

impl Trouble {
    /// A failure before anything was sent.
    pub fn before(error: Error) -> Self {
        Self { status: None, code: String::new(), error, ambiguous: false }
    }

    /// A request that got no answer, or only the beginning of one.
    pub fn unanswered(error: Error, sent: bool) -> Self {
        Self { status: None, code: String::new(), error, ambiguous: sent }
    }

    /// An answer that is no success: its status, headers and body.
    pub fn answered(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let code = xml::find(body, "Code").unwrap_or_else(|| code_of(status).to_owned());
        let said = xml::find(body, "Message").filter(|text| !text.is_empty());
        let region = xml::find(body, "Region").or_else(|| {
            headers
                .get("x-amz-bucket-region")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        });
        let mut message = match (&code, said) {
            (code, Some(said)) if !code.is_empty() => {
                format!("{code}: {}", said.trim_end_matches('.'))
            }
            (code, None) if !code.is_empty() => format!("{code} ({})", status.as_u16()),
            _ => format!("the store answered {status}"),
        };
        if let Some(id) = headers.get("x-amz-request-id").and_then(|value| value.to_str().ok()) {
            message.push_str(&format!(" (request {id})"));
        }
        let meaning = meaning(status, &code, &message, region.as_deref(), headers);
        let mut error = Error::new(meaning.kind, message).with_class(meaning.class);
        if let Some(hint) = meaning.hint {
            error = error.with_hint(hint);
        }
        if let Some(wait) = retry_after(headers) {
            error = error.with_retry_after(wait);
        }
        let ambiguous = status.is_server_error() && meaning.class == Class::Transient;
        Self { status: Some(status), code, error, ambiguous }
    }

    /// An error document inside an answer that began as a success.
    pub fn late(headers: &HeaderMap, body: &[u8]) -> Self {
        let status = match xml::find(body, "Code").as_deref() {
            Some("SlowDown" | "ServiceUnavailable") => StatusCode::SERVICE_UNAVAILABLE,
            Some("PreconditionFailed") => StatusCode::PRECONDITION_FAILED,
            Some("NoSuchKey" | "NoSuchUpload") => StatusCode::NOT_FOUND,
            Some("AccessDenied") => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::answered(status, headers, body)
    }

    /// Whether the answer has this status.
    pub fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }
}

/// The error of one key of a bulk delete.
pub fn of_code(code: &str, said: &str) -> Error {
    let body = format!(
        "<Error><Code>{}</Code><Message>{}</Message></Error>",
        xml::escape(code),
        xml::escape(said)
    );
    let status = match code {
        "AccessDenied" => StatusCode::FORBIDDEN,
        "SlowDown" => StatusCode::SERVICE_UNAVAILABLE,
        "NoSuchKey" => StatusCode::NOT_FOUND,
        "InternalError" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    Trouble::answered(status, &HeaderMap::new(), body.as_bytes()).error
}

/// Credentials that were good once and may be good again when they are renewed.
pub fn is_stale(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestExpired"
    )
}

fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "AccessDenied",
        404 => "NoSuchKey",
        412 => "PreconditionFailed",
        416 => "InvalidRange",
        _ => "",
    }
}

struct Meaning {
    kind: Kind,
    class: Class,
    hint: Option<String>,
}

fn never(kind: Kind, hint: impl Into<String>) -> Meaning {
    Meaning { kind, class: Class::Never, hint: Some(hint.into()) }
}

fn plain(kind: Kind, class: Class) -> Meaning {
    Meaning { kind, class, hint: None }
}

fn meaning(
    status: StatusCode,
    code: &str,
    message: &str,
    region: Option<&str>,
    headers: &HeaderMap,
) -> Meaning {
    match code {
        "NoSuchKey" | "NoSuchVersion" | "NotFound" | "NoSuchUpload" => plain(Kind::NotFound, Class::Never),
        "NoSuchBucket" => never(Kind::Config, "The bucket does not exist: create it, or correct the prefix setting and AWS_ENDPOINT."),
        "InvalidBucketName" => never(Kind::Config, "Correct the name of the bucket in the prefix setting, or set AWS_S3_FORCE_PATH_STYLE=true."),
        "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
            never(Kind::Unauthenticated, "The store does not know this access key: check AWS_ACCESS_KEY_ID and AWS_ENDPOINT.")
        }
        // Some stores answer 404 here, which must not be taken for a missing object.
        code if code.contains("UserNotFound") || code == "NoSuchUser" => {
            never(Kind::Unauthenticated, "The store does not know this access key: check AWS_ACCESS_KEY_ID and AWS_ENDPOINT.")
        }
        "SignatureDoesNotMatch" => never(
            Kind::Unauthenticated,
            "Check AWS_SECRET_ACCESS_KEY and AWS_REGION; a proxy that changes headers has the same effect.",
        ),
        code if is_stale(code) => never(Kind::Unauthenticated, "The temporary credentials have expired: renew AWS_SESSION_TOKEN, or let Walport fetch them itself."),
        "RequestTimeTooSkewed" => never(Kind::Unauthenticated, skew(headers)),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden" if is_locked(message) => {
            never(Kind::Denied, "The object is under retention or a legal hold, and stays until that ends.")
        }
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden" | "UnauthorizedAccess" => never(
            Kind::Denied,
            "Allow this identity s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and, on the bucket, s3:ListBucket; without the last a missing object is refused too.",
        ),
        "ObjectLocked" | "InvalidRetention" | "ObjectUnderRetention" => never(Kind::Denied, "The object is under retention, and stays until that ends."),
        "PermanentRedirect" | "TemporaryRedirect" | "Redirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "InvalidRegionName" => {
            never(Kind::Config, match region {
                Some(region) => format!("The bucket is in another region: set AWS_REGION={region}."),
                None => "The bucket is in another region or behind another endpoint: check AWS_REGION and AWS_ENDPOINT.".to_owned(),
            })
        }
        "PreconditionFailed" => plain(Kind::Changed, Class::Never),
        "InvalidRange" => plain(Kind::Invalid, Class::Never),
        "ConditionalRequestConflict" | "OperationAborted" | "RequestTimeout" | "IncompleteBody" | "BadDigest"
        | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => plain(Kind::Unavailable, Class::Transient),
        "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded"
        | "TooManyRequests" | "BandwidthLimitExceeded" | "RequestThrottled" => plain(Kind::Throttled, Class::Throttled),
        "QuotaExceeded" | "QuotaExceededException" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientStorage" | "StorageFull"
        | "InsufficientCapacity" | "ServiceQuotaExceededException" => {
            never(Kind::Full, "The bucket or its disk is full: raise the quota or delete old backups.")
        }
        "InvalidObjectState" => never(Kind::Unsupported, "The object is archived: restore it to a class that can be read, then run the command again."),
        "EntityTooLarge" => never(Kind::Invalid, "The store takes no body of this size: lower S3_MAX_PART_SIZE."),
        "EntityTooSmall" => never(Kind::Invalid, "The store wants larger parts: raise WALPORT_MEMORY_LIMIT or S3_MAX_PART_SIZE."),
        "NotImplemented" | "MethodNotAllowed" | "XNotImplemented" => {
            never(Kind::Unsupported, "The store does not know this operation: choose its WALPORT_S3_PRESET.")
        }
        "InvalidStorageClass" => never(Kind::Config, "The store does not have this storage class: correct S3_STORAGE_CLASS."),
        code if code.starts_with("KMS") => never(Kind::Denied, "Check S3_SSE_KMS_ID and that this identity may use the key."),
        code if status == StatusCode::NOT_FOUND && !code.is_empty() => {
            never(Kind::Config, "What is missing is not the object: check the prefix setting and AWS_ENDPOINT.")
        }
        _ => of_status(status),
    }
}

fn of_status(status: StatusCode) -> Meaning {
    match status.as_u16() {
        301 | 302 | 307 | 308 => {
            never(Kind::Config, "The store lives elsewhere: check AWS_REGION and AWS_ENDPOINT.")
        }
        401 => never(Kind::Unauthenticated, "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
        403 => never(Kind::Denied, "Check the permissions of this identity."),
        404 => plain(Kind::NotFound, Class::Never),
        405 | 501 => never(
            Kind::Unsupported,
            "The store does not know this operation: check AWS_ENDPOINT and WALPORT_S3_PRESET.",
        ),
        407 => {
            never(Kind::Config, "The proxy asks for a user name: check HTTPS_PROXY and HTTP_PROXY.")
        }
        408 | 409 | 499 => plain(Kind::Unavailable, Class::Transient),
        412 => plain(Kind::Changed, Class::Never),
        429 | 503 => plain(Kind::Throttled, Class::Throttled),
        507 => never(
            Kind::Full,
            "The bucket or its disk is full: raise the quota or delete old backups.",
        ),
        500..=599 => plain(Kind::Unavailable, Class::Transient),
        _ => plain(Kind::Invalid, Class::Never),
    }
}

/// AccessDenied is also what a lock answers; only the words tell them apart.
fn is_locked(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["retention", "object lock", "worm", "legal hold", "retained"]
        .iter()
        .any(|word| message.contains(word))
}

fn skew(headers: &HeaderMap) -> String {
    let theirs = headers
        .get(header::DATE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    match theirs {
        Some(theirs) => {
            let off = (Utc::now() - theirs.to_utc()).num_seconds();
            let word = if off < 0 { "behind" } else { "ahead of" };
            format!("The clock of this host is {} s {word} the store's: synchronise it.", off.abs())
        }
        None => "The clock of this host is wrong: synchronise it.".to_owned(),
    }
}

/// The wait that the store asked for, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?.to_utc();
    (until - Utc::now()).to_std().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(status: u16, code: &str, message: &str) -> Trouble {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message><Region>eu-west-3</Region></Error>"
        );
        Trouble::answered(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn codes_have_kinds_classes_and_hints() {
        for (status, code, kind, class, hint) in [
            (404, "NoSuchKey", Kind::NotFound, Class::Never, None),
            (
                404,
                "XAdminUserNotFound",
                Kind::Unauthenticated,
                Class::Never,
                Some("AWS_ACCESS_KEY_ID"),
            ),
            (404, "NoSuchWebsite", Kind::Config, Class::Never, Some("AWS_ENDPOINT")),
            (404, "NoSuchBucket", Kind::Config, Class::Never, Some("create it")),
            (
                403,
                "InvalidAccessKeyId",
                Kind::Unauthenticated,
                Class::Never,
                Some("AWS_ACCESS_KEY_ID"),
            ),
            (
                403,
                "SignatureDoesNotMatch",
                Kind::Unauthenticated,
                Class::Never,
                Some("AWS_SECRET_ACCESS_KEY"),
            ),
            (400, "ExpiredToken", Kind::Unauthenticated, Class::Never, Some("expired")),
            (403, "RequestTimeTooSkewed", Kind::Unauthenticated, Class::Never, Some("clock")),
            (403, "AccessDenied", Kind::Denied, Class::Never, Some("s3:PutObject")),
            (301, "PermanentRedirect", Kind::Config, Class::Never, Some("AWS_REGION=eu-west-3")),
            (412, "PreconditionFailed", Kind::Changed, Class::Never, None),
            (503, "SlowDown", Kind::Throttled, Class::Throttled, None),
            (500, "InternalError", Kind::Unavailable, Class::Transient, None),
            (507, "XMinioStorageFull", Kind::Full, Class::Never, Some("full")),
            (403, "QuotaExceeded", Kind::Full, Class::Never, Some("quota")),
            (501, "NotImplemented", Kind::Unsupported, Class::Never, Some("WALPORT_S3_PRESET")),
        ] {
            let trouble = told(status, code, "Some words.");
            assert_eq!(trouble.error.kind(), kind, "{code}");
            assert_eq!(trouble.error.class(), class, "{code}");
            assert_eq!(trouble.error.message(), format!("{code}: Some words"));
            let found = trouble.error.hint().unwrap_or("");
            assert!(hint.is_none_or(|hint| found.contains(hint)), "{code}: {found}");
        }
        let locked =
            told(403, "AccessDenied", "Object is WORM protected and cannot be overwritten");
        assert!(locked.error.hint().unwrap().contains("retention"));
    }

    #[test]
    fn an_answer_without_a_document_is_understood_by_its_status() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        let busy =
            Trouble::answered(StatusCode::SERVICE_UNAVAILABLE, &headers, b"<html>busy</html>");
        assert_eq!(busy.error.kind(), Kind::Throttled);
        assert_eq!(busy.error.retry_after(), Some(Duration::from_secs(7)));
        assert!(Trouble::answered(StatusCode::BAD_GATEWAY, &headers, b"").ambiguous);
        let hidden = Trouble::answered(StatusCode::FORBIDDEN, &HeaderMap::new(), b"");
        assert_eq!(hidden.error.kind(), Kind::Denied);
    }
}
