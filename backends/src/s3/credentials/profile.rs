//! The shared files of profiles: ~/.aws/credentials and ~/.aws/config.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use walport_engine::error::{Error, Kind, Result};
use walport_engine::settings::Settings;

use super::metadata::Metadata;
use super::sts::{Role, Service, WebIdentity};
use super::{Credentials, Provider, read_file};

/// How many roles may stand behind one another.
const DEPTH: usize = 5;

type Section = HashMap<String, String>;

/// One profile, read anew each time credentials are asked for.
#[derive(Debug)]
pub struct Profile {
    name: String,
    /// The user named the profile, so it must exist.
    asked: bool,
    credentials_file: Option<PathBuf>,
    config_file: Option<PathBuf>,
    session: String,
    service: Service,
    metadata: Metadata,
}

impl Profile {
    pub fn load(settings: &Settings, service: Service, metadata: Metadata) -> Self {
        let text = |name: &str| settings.text(name).map(str::trim).filter(|text| !text.is_empty());
        let file = |setting: &str, name: &str| {
            let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".aws").join(name));
            text(setting).map(PathBuf::from).or_else(home)
        };
        Self {
            name: text("AWS_PROFILE").unwrap_or("default").to_owned(),
            asked: settings.is_set("AWS_PROFILE"),
            credentials_file: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config_file: file("AWS_CONFIG_FILE", "config"),
            session: text("AWS_ROLE_SESSION_NAME").unwrap_or("walport").to_owned(),
            service,
            metadata,
        }
    }

    async fn sections(&self) -> Result<HashMap<String, Section>> {
        let mut all: HashMap<String, Section> = HashMap::new();
        for (path, prefixed) in [(&self.config_file, true), (&self.credentials_file, false)] {
            let Some(path) = path else { continue };
            let text = match read_file(path).await {
                Ok(text) => text,
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for (name, section) in parse(&text, path)? {
                let name = if prefixed {
                    name.strip_prefix("profile ").unwrap_or(&name).trim().to_owned()
                } else {
                    name
                };
                all.entry(name).or_default().extend(section);
            }
        }
        Ok(all)
    }

    /// The credentials of the profile `name`, with the roles behind it.
    async fn resolve(
        &self,
        all: &HashMap<String, Section>,
        name: &str,
    ) -> Result<Option<Credentials>> {
        // The chain of roles, from the profile asked for to the one with keys.
        let mut roles: Vec<Role> = Vec::new();
        let mut name = name.to_owned();
        let base = loop {
            let Some(section) = all.get(&name) else {
                if !self.asked && roles.is_empty() {
                    return Ok(None);
                }
                return Err(wrong(format!("the profile {name:?} is in no shared file")));
            };
            let value =
                |key: &str| section.get(key).map(String::as_str).filter(|text| !text.is_empty());
            let keys = value("aws_access_key_id").zip(value("aws_secret_access_key"));
            let Some(arn) = value("role_arn") else {
                match keys {
                    Some((key, secret)) => {
                        break Credentials::new(key, secret, value("aws_session_token"));
                    }
                    None => return self.nothing(&name, section),
                }
            };
            let session = value("role_session_name").unwrap_or(&self.session).to_owned();
            if let Some(file) = value("web_identity_token_file") {
                let web = WebIdentity {
                    service: self.service.clone(),
                    role: arn.to_owned(),
                    session,
                    file: PathBuf::from(file),
                };
                break required(web.fetch().await?)?;
            }
            roles.push(Role {
                service: self.service.clone(),
                arn: arn.to_owned(),
                session,
                external_id: value("external_id").map(str::to_owned),
                seconds: value("duration_seconds").and_then(|text| text.parse().ok()),
            });
            if roles.len() > DEPTH {
                return Err(wrong(format!("the profile {name:?} has too many roles behind it")));
            }
            match (value("source_profile"), value("credential_source")) {
                // A profile that names itself means its own keys.
                (Some(source), _) if source == name => match keys {
                    Some((key, secret)) => {
                        break Credentials::new(key, secret, value("aws_session_token"));
                    }
                    None => {
                        return Err(wrong(format!("the profile {name:?} has no keys of its own")));
                    }
                },
                (Some(source), _) => source.clone_into(&mut name),
                (None, Some(source)) => break self.source(source).await?,
                (None, None) => {
                    return Err(wrong(format!(
                        "the profile {name:?} has a role, and no source_profile"
                    )));
                }
            }
        };
        let mut credentials = base;
        for role in roles.iter().rev() {
            credentials = role.assume(&credentials).await?;
        }
        Ok(Some(credentials))
    }

    async fn source(&self, source: &str) -> Result<Credentials> {
        let provider = match source {
            "Ec2InstanceMetadata" => self.metadata.instance(),
            "EcsContainer" => self.metadata.container(),
            other => {
                return Err(wrong(format!("the credential_source {other:?} is not supported")));
            }
        };
        match provider {
            Some(provider) => required(provider.fetch().await?),
            None => Err(wrong(format!("the credential_source {source} is not there"))),
        }
    }

    fn nothing(&self, name: &str, section: &Section) -> Result<Option<Credentials>> {
        let other = ["credential_process", "sso_session", "sso_start_url"]
            .iter()
            .find(|key| section.contains_key(**key));
        match other {
            Some(key) => Err(wrong(format!("the profile {name:?} uses {key}, which is not supported"))
                .with_hint("Give keys, a role with source_profile or web_identity_token_file, or export AWS_ACCESS_KEY_ID and its secret.")),
            None if self.asked => Err(wrong(format!("the profile {name:?} holds no credentials"))),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl Provider for Profile {
    async fn fetch(&self) -> Result<Option<Credentials>> {
        let all = self.sections().await?;
        self.resolve(&all, &self.name).await
    }

    fn name(&self) -> &'static str {
        "profile files"
    }
}

fn required(found: Option<Credentials>) -> Result<Credentials> {
    found.ok_or_else(|| wrong("the source of the profile's credentials has none".to_owned()))
}

fn wrong(message: String) -> Error {
    Error::new(Kind::Config, message)
        .with_hint("Check AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE.")
}

/// Sections of `name = value` lines. Indented lines belong to a nested value
/// and are passed over.
fn parse(text: &str, path: &Path) -> Result<Vec<(String, Section)>> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim();
        if bare.is_empty()
            || bare.starts_with(['#', ';'])
            || (line.starts_with([' ', '\t']) && !bare.starts_with('['))
        {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            sections.push((name.trim().to_owned(), Section::new()));
            continue;
        }
        let Some(((name, value), (_, section))) = bare.split_once('=').zip(sections.last_mut())
        else {
            return Err(wrong(format!("line {} of {} cannot be read", number + 1, path.display())));
        };
        section.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sections_are_read() {
        let text = "# c\n[default]\naws_access_key_id = A\nS3 =\n  nested = 1\n\n[ profile other ]\nregion=x=y\n";
        let sections = parse(text, Path::new("f")).unwrap();
        assert_eq!(sections[0].0, "default");
        assert_eq!(sections[0].1["aws_access_key_id"], "A");
        assert!(!sections[0].1.contains_key("nested"));
        assert_eq!(sections[1].0, "profile other");
        assert_eq!(sections[1].1["region"], "x=y");
        assert_eq!(parse("lost = 1", Path::new("f")).unwrap_err().kind(), Kind::Config);
    }
}
