//! Finds missing credentials at once. The stores' clients would ask an absent metadata server again
//! and again.

use std::{
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use object_store::{
    aws::{AmazonS3Builder, AmazonS3ConfigKey as S3},
    azure::{AzureConfigKey as Azure, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Gcs},
};
use tagflow_engine::{Error, Result};

use super::place::Place;

/// The address where machines of all three clouds request their role.
const METADATA: &str = "169.254.169.254:80";

/// The metadata server is on the same machine, or absent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fails if the store of `place` needs credentials and the environment has none.
pub(super) fn check(place: &Place, url: &str) -> Result<()> {
    let metadata = METADATA.parse().expect("it is an address");
    match missing(place, metadata) {
        None => Ok(()),
        Some(help) => Err(Error::config(format!("no credentials for `{url}`: {help}"))),
    }
}

/// The help text if there are no credentials; `metadata` is the metadata server.
fn missing(place: &Place, metadata: SocketAddr) -> Option<&'static str> {
    let (is_given, request, help): (bool, &str, &'static str) = match place {
        Place::Local(_) | Place::Memory(_) => return None,
        Place::S3(..) => (
            s3_is_given(),
            "PUT /latest/api/token HTTP/1.1\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\n\
             content-length: 0\r\n",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION), or run on a machine \
             with a role; for a store other than AWS set AWS_ENDPOINT too, and \
             AWS_ALLOW_HTTP=true if it speaks plain HTTP",
        ),
        Place::Gcs(..) => (
            gcs_is_given(),
            "GET /computeMetadata/v1/ HTTP/1.1\r\nmetadata-flavor: Google\r\n",
            "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, log in with \
             `gcloud auth application-default login`, or run on a machine with a service account",
        ),
        Place::Azure(..) => (
            azure_is_given(),
            "GET /metadata/instance?api-version=2021-02-01 HTTP/1.1\r\nmetadata: true\r\n",
            "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or \
             AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and \
             AZURE_TENANT_ID, or run on a machine with a managed identity",
        ),
    };
    (!is_given && !answers(metadata, request)).then_some(help)
}

fn s3_is_given() -> bool {
    let builder = AmazonS3Builder::from_env();
    let is_set = |key| builder.get_config_value(&key).is_some();
    is_set(S3::AccessKeyId)
        || is_set(S3::MetadataEndpoint)
        || is_set(S3::ContainerCredentialsRelativeUri)
        || is_set(S3::ContainerCredentialsFullUri)
        || builder
            .get_config_value(&S3::SkipSignature)
            .is_some_and(|it| it == "true")
        || env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").is_some()
}

fn gcs_is_given() -> bool {
    let builder = GoogleCloudStorageBuilder::from_env();
    let is_set = |key| builder.get_config_value(&key).is_some();
    let login = env::var_os("HOME").map(|home| {
        PathBuf::from(home).join(".config/gcloud/application_default_credentials.json")
    });
    is_set(Gcs::ServiceAccount)
        || is_set(Gcs::ServiceAccountKey)
        || is_set(Gcs::ApplicationCredentials)
        || builder
            .get_config_value(&Gcs::SkipSignature)
            .is_some_and(|it| it == "true")
        || env::var_os("SERVICE_ACCOUNT").is_some()
        || login.is_some_and(|file| file.exists())
}

fn azure_is_given() -> bool {
    let builder = MicrosoftAzureBuilder::from_env();
    let is_set = |key| builder.get_config_value(&key).is_some();
    let is_true = |key| {
        builder
            .get_config_value(&key)
            .is_some_and(|it| it == "true")
    };
    is_set(Azure::AccessKey)
        || is_set(Azure::SasKey)
        || is_set(Azure::Token)
        || is_set(Azure::ClientSecret)
        || is_set(Azure::FederatedTokenFile)
        || is_set(Azure::MsiEndpoint)
        || is_set(Azure::FabricTokenServiceUrl)
        || is_true(Azure::UseAzureCli)
        || is_true(Azure::UseEmulator)
        || is_true(Azure::SkipSignature)
        || env::var_os("IDENTITY_ENDPOINT").is_some()
}

/// Whether a metadata server answers `request` with success.
fn answers(server: SocketAddr, request: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = format!(
            "{request}host: {}\r\nconnection: close\r\n\r\n",
            server.ip()
        );
        stream.write_all(request.as_bytes())?;
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A metadata server that gives this answer once.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 16];
            if stream.read_exact(&mut request).is_ok() {
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    #[test]
    fn a_metadata_server_must_answer_with_success() {
        let request = "GET / HTTP/1.1\r\n";
        assert!(answers(server("HTTP/1.1 200 OK\r\n\r\n"), request));
        assert!(!answers(server("HTTP/1.1 403 Forbidden\r\n\r\n"), request));
        assert!(!answers(server(""), request));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        assert!(!answers(closed.unwrap(), request));
    }

    #[test]
    fn regression_missing_credentials_are_named_with_the_variables_to_set() {
        let closed = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        for (url, variable, is_given) in [
            ("s3://bucket/x", "AWS_ACCESS_KEY_ID", s3_is_given()),
            (
                "gs://bucket/x",
                "GOOGLE_APPLICATION_CREDENTIALS",
                gcs_is_given(),
            ),
            (
                "az://container/x",
                "AZURE_STORAGE_ACCOUNT_KEY",
                azure_is_given(),
            ),
        ] {
            let place = Place::parse(url).unwrap();
            if is_given {
                println!("NOT RUN for {url}: the environment has credentials");
                continue;
            }
            assert!(missing(&place, closed()).unwrap().contains(variable));
            let role = server("HTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(missing(&place, role), None, "{url}: the machine has a role");
        }
        let local = Place::parse("./lake").unwrap();
        assert_eq!(missing(&local, closed()), None);
    }
}
