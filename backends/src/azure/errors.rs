//! What an answer of Azure means: kind, class, and what to do about it.

use http::{HeaderMap, StatusCode};
use walport_engine::error::{Class, Error, Kind};

use crate::http::trouble::{Meaning, Trouble, never, of_status, plain, skew};
use crate::http::xml;

/// An answer that is no success: its status, headers and body.
pub fn answered(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
    let header = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let code = header("x-ms-error-code")
        .map(str::to_owned)
        .or_else(|| xml::find(body, "Code"))
        .unwrap_or_default();
    let said = xml::find(body, "Message").and_then(|text| {
        text.lines().next().map(|line| line.trim().trim_end_matches('.').to_owned())
    });
    let detail = xml::find(body, "AuthenticationErrorDetail")
        .filter(|text| !text.contains("string to sign"));
    let mut message = match (&code, said.filter(|text| !text.is_empty())) {
        (code, Some(said)) if !code.is_empty() => format!("{code}: {said}"),
        (code, None) if !code.is_empty() => format!("{code} ({})", status.as_u16()),
        _ => format!("the store answered {status}"),
    };
    if let Some(detail) = detail.as_deref().and_then(|text| text.lines().next()) {
        message.push_str(&format!(" ({})", detail.trim_end_matches('.')));
    }
    if let Some(id) = header("x-ms-request-id") {
        message.push_str(&format!(" (request {id})"));
    }
    let meaning = meaning(status, &code, headers);
    Trouble::answered(status, headers, code, message, meaning)
}

/// Credentials that were good once and may be good again when they are renewed.
pub fn is_stale(trouble: &Trouble) -> bool {
    trouble.is(StatusCode::UNAUTHORIZED)
        || (trouble.code == "AuthenticationFailed" && trouble.is(StatusCode::FORBIDDEN))
}

/// Whether a creation failed because there is something already.
pub fn is_taken(trouble: &Trouble) -> bool {
    match trouble.code.as_str() {
        "BlobAlreadyExists" | "ConditionNotMet" | "TargetConditionNotMet" => true,
        "" => trouble.is(StatusCode::PRECONDITION_FAILED),
        _ => false,
    }
}

/// Somebody has an object of that name.
pub fn already() -> Error {
    Error::new(Kind::AlreadyExists, "an object of that name exists")
}

fn meaning(status: StatusCode, code: &str, headers: &HeaderMap) -> Meaning {
    match code {
        "BlobNotFound" | "ResourceNotFound" => plain(Kind::NotFound, Class::Never),
        "ContainerNotFound" => never(
            Kind::Config,
            "The container does not exist: create it, or correct WALG_AZ_PREFIX and AZURE_STORAGE_ACCOUNT.",
        ),
        "ContainerBeingDeleted" | "ContainerDisabled" => never(
            Kind::Config,
            "The container is being deleted: choose another one in WALG_AZ_PREFIX.",
        ),
        "InvalidResourceName" | "OutOfRangeInput" => {
            never(Kind::Config, "Correct the name of the container in WALG_AZ_PREFIX.")
        }
        "AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation" => {
            never(Kind::Unauthenticated, unknown(headers))
        }
        "KeyBasedAuthenticationNotPermitted" => never(
            Kind::Denied,
            "The account does not allow shared keys: remove AZURE_STORAGE_ACCESS_KEY and use a managed identity, a workload identity or a service principal.",
        ),
        "AuthorizationPermissionMismatch"
        | "InsufficientAccountPermissions"
        | "PublicAccessNotPermitted" => never(
            Kind::Denied,
            "Give this identity the role Storage Blob Data Contributor on the container, or a signature with the permissions rwdlc.",
        ),
        "AuthorizationFailure"
        | "AuthorizationSourceIPMismatch"
        | "AuthorizationProtocolMismatch" => never(
            Kind::Denied,
            "The firewall of the account or the terms of the signature keep this host out: allow its network, or renew the signature. An emulator says the same of a wrong AZURE_STORAGE_ACCESS_KEY.",
        ),
        "AuthorizationServiceMismatch" | "AuthorizationResourceTypeMismatch" => never(
            Kind::Denied,
            "The signature is not for blobs: create one for the service b and the resource types c and o.",
        ),
        "AccountIsDisabled" => {
            never(Kind::Denied, "The account is disabled: look at its subscription.")
        }
        "BlobAlreadyExists" => plain(Kind::AlreadyExists, Class::Never),
        "ConditionNotMet" | "TargetConditionNotMet" | "SourceConditionNotMet" => {
            plain(Kind::Changed, Class::Never)
        }
        "InvalidRange" => plain(Kind::Invalid, Class::Never),
        // Another upload of the same name took our blocks with it.
        "InvalidBlockList"
        | "InvalidBlobOrBlock"
        | "BlobWriteConflict"
        | "BlobBeingRehydrated"
        | "PendingCopyOperation" => plain(Kind::Unavailable, Class::Transient),
        "Md5Mismatch" | "Crc64Mismatch" | "OperationTimedOut" | "InternalError"
        | "IncompleteBody" => plain(Kind::Unavailable, Class::Transient),
        "ServerBusy" | "TooManyRequests" | "AccountOperationRateExceeded" => {
            plain(Kind::Throttled, Class::Throttled)
        }
        "BlobImmutableDueToPolicy" | "BlobUsesLegalHold" | "BlobImmutableDueToLegalHold" => never(
            Kind::Denied,
            "The blob is under retention or a legal hold, and stays until that ends.",
        ),
        "LeaseIdMissing" | "LeaseAlreadyPresent" | "LeaseIdMismatchWithBlobOperation" => never(
            Kind::Denied,
            "Somebody holds a lease on the blob: break it, or wait until it ends.",
        ),
        "BlobArchived" => never(
            Kind::Unsupported,
            "The blob is archived: set its access tier to Hot or Cool, and read it some hours later.",
        ),
        "RequestBodyTooLarge" => {
            never(Kind::Invalid, "The store takes no block of this size: lower AZURE_BUFFER_SIZE.")
        }
        "InvalidHeaderValue"
        | "UnsupportedHeader"
        | "UnsupportedHttpVerb"
        | "FeatureVersionMismatch" => never(
            Kind::Unsupported,
            "The store does not speak this version: set AZURE_BLOB_STORE_API_VERSION to one that it does.",
        ),
        "InvalidBlobTier"
        | "BlobTierInadequateForContentLength"
        | "AccessTierNotSupportedForBlobType" => never(
            Kind::Config,
            "The account does not have this access tier: correct WALPORT_AZURE_ACCESS_TIER.",
        ),
        _ => of_status(
            status,
            "AZURE_STORAGE_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN or the identity",
            "AZURE_STORAGE_ACCOUNT and WALPORT_AZURE_ENDPOINT",
        ),
    }
}

/// A refused signature may be a matter of the key, of its end, or of the clock.
fn unknown(headers: &HeaderMap) -> String {
    match skew(headers) {
        Some(off) if off.abs() > 600 => {
            let word = if off < 0 { "behind" } else { "ahead of" };
            format!("The clock of this host is {} s {word} the store's: synchronise it.", off.abs())
        }
        _ => "Check AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ACCESS_KEY, or whether AZURE_STORAGE_SAS_TOKEN has expired.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(status: u16, code: &str) -> Trouble {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Some words.\nRequestId:1</Message></Error>"
        );
        answered(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn codes_have_kinds_classes_and_hints() {
        for (status, code, kind, class, hint) in [
            (404, "BlobNotFound", Kind::NotFound, Class::Never, None),
            (404, "ContainerNotFound", Kind::Config, Class::Never, Some("create it")),
            (
                403,
                "AuthenticationFailed",
                Kind::Unauthenticated,
                Class::Never,
                Some("AZURE_STORAGE_ACCESS_KEY"),
            ),
            (
                403,
                "AuthorizationPermissionMismatch",
                Kind::Denied,
                Class::Never,
                Some("Storage Blob Data Contributor"),
            ),
            (403, "AuthorizationFailure", Kind::Denied, Class::Never, Some("firewall")),
            (409, "BlobAlreadyExists", Kind::AlreadyExists, Class::Never, None),
            (412, "ConditionNotMet", Kind::Changed, Class::Never, None),
            (416, "InvalidRange", Kind::Invalid, Class::Never, None),
            (400, "InvalidBlockList", Kind::Unavailable, Class::Transient, None),
            (409, "BlobImmutableDueToPolicy", Kind::Denied, Class::Never, Some("retention")),
            (
                400,
                "InvalidHeaderValue",
                Kind::Unsupported,
                Class::Never,
                Some("AZURE_BLOB_STORE_API_VERSION"),
            ),
            (503, "ServerBusy", Kind::Throttled, Class::Throttled, None),
            (500, "InternalError", Kind::Unavailable, Class::Transient, None),
        ] {
            let trouble = told(status, code);
            assert_eq!((trouble.error.kind(), trouble.error.class()), (kind, class), "{code}");
            assert_eq!(trouble.error.message(), format!("{code}: Some words"));
            let found = trouble.error.hint().unwrap_or("");
            assert!(hint.is_none_or(|hint| found.contains(hint)), "{code}: {found}");
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_told() {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap());
        headers.insert("x-ms-error-code", "AuthenticationFailed".parse().unwrap());
        let trouble = answered(StatusCode::FORBIDDEN, &headers, b"");
        assert!(trouble.error.hint().unwrap().contains("clock"));
        assert_eq!(
            answered(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>").error.kind(),
            Kind::Unavailable
        );
    }
}
