//! What an answer of Google Cloud Storage means: kind, class, and what to do.

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use walport_engine::error::{Class, Kind};

use crate::http::trouble::{Meaning, Trouble, never, of_status, plain};

/// An answer that is no success: its status, headers and body.
pub fn answered(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    let code = error["errors"][0]["reason"].as_str().unwrap_or_default().to_owned();
    // Reads are refused in plain text.
    let said = error["message"].as_str().map(str::to_owned).or_else(|| {
        let text = std::str::from_utf8(body).ok()?;
        (value.is_null() && !text.starts_with('<')).then(|| text.to_owned())
    });
    let said = said.and_then(|text| {
        text.lines()
            .next()
            .map(|line| line.trim().trim_end_matches('.').chars().take(400).collect::<String>())
    });
    let message = match (&code, said.filter(|text| !text.is_empty())) {
        (code, Some(said)) if !code.is_empty() => format!("{code}: {said}"),
        (_, Some(said)) => format!("{said} ({})", status.as_u16()),
        (code, None) if !code.is_empty() => format!("{code} ({})", status.as_u16()),
        _ => format!("the store answered {status}"),
    };
    let meaning = meaning(status, &code, &message);
    Trouble::answered(status, headers, code, message, meaning)
}

/// The bucket does not exist, rather than the object.
pub fn no_bucket() -> Meaning {
    never(Kind::Config, "The bucket does not exist: create it, or correct WALG_GS_PREFIX.")
}

fn meaning(status: StatusCode, code: &str, message: &str) -> Meaning {
    let text = message.to_ascii_lowercase();
    match code {
        _ if status == StatusCode::NOT_FOUND && text.contains("bucket does not exist") => {
            no_bucket()
        }
        "rateLimitExceeded"
        | "userRateLimitExceeded"
        | "quotaExceeded"
        | "dailyLimitExceeded"
        | "slowDown" => plain(Kind::Throttled, Class::Throttled),
        "retentionPolicyNotMet"
        | "objectUnderActiveHold"
        | "softDeletePolicy"
        | "objectRetentionNotMet" => never(
            Kind::Denied,
            "The object is under retention or a hold, and stays until that ends.",
        ),
        "customerEncryptionKeyIsIncorrect"
        | "customerEncryptionKeySha256IsInvalid"
        | "customerEncryptionKeyFormatIsInvalid" => never(
            Kind::Config,
            "The object is encrypted with another customer key: set GCS_ENCRYPTION_KEY to that one.",
        ),
        "resourceIsEncryptedWithCustomerEncryptionKey" => never(
            Kind::Config,
            "The object is encrypted with a customer key: set GCS_ENCRYPTION_KEY.",
        ),
        "resourceNotEncryptedWithCustomerEncryptionKey" => never(
            Kind::Config,
            "The object is not encrypted with a customer key: read it without GCS_ENCRYPTION_KEY.",
        ),
        "userProjectMissing" | "userProjectAccessDenied" => {
            never(Kind::Config, "The requester pays for this bucket: set WALPORT_GCS_USER_PROJECT.")
        }
        "accountDisabled" | "accountProblem" | "billingNotEnabled" => {
            never(Kind::Denied, "Billing of the project is off: look at its account.")
        }
        _ if status == StatusCode::UNAUTHORIZED => never(
            Kind::Unauthenticated,
            "Check GOOGLE_APPLICATION_CREDENTIALS, that the account exists, and the clock of this host.",
        ),
        _ if status == StatusCode::FORBIDDEN && text.contains("objects.delete") => never(
            Kind::Denied,
            "This identity may create objects, and neither replace nor delete them: give it roles/storage.objectUser on the bucket if it should.",
        ),
        _ if status == StatusCode::FORBIDDEN => never(
            Kind::Denied,
            "Give this identity roles/storage.objectUser on the bucket, or roles/storage.objectCreator and roles/storage.objectViewer if it must not delete.",
        ),
        "invalid" if text.contains("storage class") => never(
            Kind::Config,
            "The bucket does not have this storage class: correct WALPORT_GCS_STORAGE_CLASS.",
        ),
        "invalid" if text.contains("crc32c") || text.contains("md5") => {
            plain(Kind::Unavailable, Class::Transient)
        }
        _ if status == StatusCode::GONE => plain(Kind::Unavailable, Class::Transient),
        _ => of_status(status, "GOOGLE_APPLICATION_CREDENTIALS", "WALPORT_GCS_ENDPOINT"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reasons_have_kinds_classes_and_hints() {
        for (status, code, message, kind, class, hint) in [
            (404, "notFound", "No such object: b/o", Kind::NotFound, Class::Never, None),
            (
                404,
                "notFound",
                "The specified bucket does not exist.",
                Kind::Config,
                Class::Never,
                Some("create it"),
            ),
            (
                401,
                "authError",
                "Invalid Credentials",
                Kind::Unauthenticated,
                Class::Never,
                Some("GOOGLE_APPLICATION_CREDENTIALS"),
            ),
            (
                403,
                "forbidden",
                "x does not have storage.objects.create access",
                Kind::Denied,
                Class::Never,
                Some("objectCreator"),
            ),
            (
                403,
                "forbidden",
                "x does not have storage.objects.delete access",
                Kind::Denied,
                Class::Never,
                Some("neither replace nor delete"),
            ),
            (403, "retentionPolicyNotMet", "later", Kind::Denied, Class::Never, Some("retention")),
            (403, "rateLimitExceeded", "slow", Kind::Throttled, Class::Throttled, None),
            (429, "rateLimitExceeded", "slow", Kind::Throttled, Class::Throttled, None),
            (412, "conditionNotMet", "no", Kind::Changed, Class::Never, None),
            (
                400,
                "customerEncryptionKeyIsIncorrect",
                "no",
                Kind::Config,
                Class::Never,
                Some("GCS_ENCRYPTION_KEY"),
            ),
            (503, "backendError", "later", Kind::Throttled, Class::Throttled, None),
            (500, "internalError", "later", Kind::Unavailable, Class::Transient, None),
        ] {
            let body = serde_json::json!({"error": {"code": status, "message": message, "errors": [{"reason": code}]}}).to_string();
            let trouble =
                answered(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes());
            assert_eq!((trouble.error.kind(), trouble.error.class()), (kind, class), "{code}");
            let found = trouble.error.hint().unwrap_or("");
            assert!(hint.is_none_or(|hint| found.contains(hint)), "{code}: {found}");
        }
        let plain = answered(StatusCode::NOT_FOUND, &HeaderMap::new(), b"No such object: b/o");
        assert_eq!(
            (plain.error.kind(), plain.error.message()),
            (Kind::NotFound, "No such object: b/o (404)")
        );
        assert_eq!(
            answered(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>").error.message(),
            "the store answered 502 Bad Gateway"
        );
    }
}
