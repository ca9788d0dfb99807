//! The manifests for Kubernetes, run without a cluster. `make lint` validates their objects.

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};
use talaria_core::hermes::signature;
use talaria_tests::{
    binary,
    openrouter::OpenRouter,
    podman::{Container, Podman},
    sink::{self, Sink},
    stack::openrouter_secret,
    until,
};

/// Where the manifests expect Hermes.
const HERMES: &str = "http://hermes.hermes.svc.cluster.local:8644";

/// The name of the image here.
const IMAGE: &str = "localhost/talaria:test";

/// The tenant of the manifests' example.
const TENANT: &str = "acme";

/// `single` or `ha`.
fn manifests(name: &str) -> PathBuf {
    binary::workspace().join("deploy/kubernetes").join(name).with_extension("yaml")
}

/// A file of a ConfigMap in these manifests.
pub(crate) fn configured(name: &str, config_map: &str, file: &str) -> String {
    let text = fs::read_to_string(manifests(name)).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let mut found = objects
        .iter()
        .filter(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == config_map);
    found.next().unwrap()["data"][file].as_str().unwrap().to_owned()
}

#[test]
fn the_configurations_of_the_manifests_are_valid() {
    let secrets = tempfile::tempdir().unwrap();
    for role in ["openrouter", "hermes", "nats"] {
        fs::create_dir(secrets.path().join(role)).unwrap();
        fs::write(secrets.path().join(role).join(TENANT), "a secret of this test").unwrap();
    }
    let key = talaria_bus::new_nats_key().unwrap();
    fs::write(secrets.path().join("nats/nkey"), key.expose_secret()).unwrap();
    for (name, role) in [("single", &[][..]), ("ha", &["--role", "ingress"]), ("ha", &["--role", "relay"])] {
        let text = configured(name, "talaria", "talaria.yaml");
        let text = text.replace("/secrets/", &format!("{}/", secrets.path().display()));
        fs::write(secrets.path().join("talaria.yaml"), text).unwrap();
        let checked = binary::run(secrets.path(), &[&["check"], role].concat());
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{name} {role:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, podman and kubectl, and a network of its own; `make test-kubernetes` runs it"]
async fn single_runs_and_its_events_outlive_the_pod() {
    // The pod reaches us by another address than loopback, in a network of the test's own.
    let sink = Sink::start_on(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await;
    let podman = Podman::new();
    provide_image(&podman);
    let directory = tempfile::tempdir().unwrap();
    let manifests = kustomized(directory.path(), sink.address.port());

    let container = podman.play(&manifests, "talaria").await;
    let about = container.inspect();
    assert_eq!(about["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(about["Config"]["User"], "65532:65532");
    assert_eq!(about["HostConfig"]["SecurityOpt"], json!(["no-new-privileges"]));
    assert!(about["EffectiveCaps"].as_array().is_none_or(Vec::is_empty), "{}", about["EffectiveCaps"]);
    let is_ready = async |admin: SocketAddr| {
        let answer = talaria_tests::http().get(format!("http://{admin}/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    };
    let address = container.address();
    until(&format!("the pod to be ready: {}", container.log()), async || {
        is_ready((address, 9090).into()).await
    })
    .await;
    // As the pod has them: this podman may leave them in base64, as they stand in a Secret.
    let [openrouter, hermes] =
        ["openrouter", "hermes"].map(|of| container.read(&format!("/secrets/{of}/{TENANT}")));
    let openrouter = |address| OpenRouter::new((address, 8080).into(), TENANT, &openrouter);
    let event = openrouter(address).send("job", "completed").await;
    until("Hermes to have it", async || (sink.requests().len() == 1).then_some(())).await;
    let request = &sink.requests()[0];
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    assert!(signature::accepts(&hermes.as_str().into(), Timestamp::now(), &request.body, header));
    let delivered = |container: &Container<'_>| {
        let status = container.exec(&["talaria", "status", "--json", &event]);
        status.contains("DELIVERY_STATE_DELIVERED").then_some(())
    };
    until("it to be delivered", async || delivered(&container)).await;

    // Another pod on the same volume knows it, and does not send it again.
    podman.down(&manifests);
    leave_out_the_claim(&manifests);
    let container = podman.play(&manifests, "talaria").await;
    let address = container.address();
    until("the pod to be ready", async || is_ready((address, 9090).into()).await).await;
    openrouter(address).send("job", "completed").await;
    assert!(delivered(&container).is_some());
    assert_eq!(sink.requests().len(), 1);
    podman.down(&manifests);
}

/// Podman makes a volume of a claim and refuses to find it there, which a cluster does not.
fn leave_out_the_claim(manifests: &Path) {
    let text = fs::read_to_string(manifests).unwrap();
    let others = text.split("\n---\n").filter(|object| !object.contains("kind: PersistentVolumeClaim"));
    fs::write(manifests, others.collect::<Vec<_>>().join("\n---\n")).unwrap();
}

/// An installation by kustomize, as docs/kubernetes.md says: the manifests with another image, secrets, and another Hermes.
fn kustomized(directory: &Path, hermes: u16) -> PathBuf {
    fs::copy(manifests("single"), directory.join("single.yaml")).unwrap();
    let text = configured("single", "talaria", "talaria.yaml");
    let text = text.replace(HERMES, &format!("http://host.containers.internal:{hermes}"));
    fs::write(directory.join("talaria.yaml"), text).unwrap();
    fs::write(directory.join("openrouter"), openrouter_secret(TENANT)).unwrap();
    fs::write(directory.join("hermes"), sink::SECRET).unwrap();
    let kustomization = "\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: talaria
resources: [single.yaml]
configMapGenerator:
  - {name: talaria, namespace: talaria, behavior: replace, files: [talaria.yaml]}
secretGenerator:
  - {name: talaria-openrouter, files: [acme=openrouter]}
  - {name: talaria-hermes, files: [acme=hermes]}
generatorOptions: {disableNameSuffixHash: true}
images:
  - {name: talaria, newName: localhost/talaria, newTag: test}
";
    fs::write(directory.join("kustomization.yaml"), kustomization).unwrap();
    let kustomize = env::var("KUSTOMIZE").unwrap_or_else(|_| "kubectl kustomize".into());
    let mut words = kustomize.split(' ');
    let rendered = Command::new(words.next().unwrap()).args(words).arg(directory).output().unwrap();
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    let manifests = directory.join("manifests.yaml");
    fs::write(&manifests, rendered.stdout).unwrap();
    manifests
}

/// The image of deploy/Dockerfile that TALARIA_IMAGE names, or else a similar one.
fn provide_image(podman: &Podman) {
    match env::var("TALARIA_IMAGE") {
        Ok(built) => podman.load(&built, IMAGE),
        Err(_) => podman.build(IMAGE, image().path()),
    }
}

/// The binary of these tests in an empty image like deploy/Dockerfile's, with the libraries that it is linked to.
fn image() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let program = binary::talaria();
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let copies = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(|path| (path, path));
    for (from, to) in copies.chain([(program.to_str().unwrap(), "/usr/local/bin/talaria")]) {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    fs::create_dir_all(directory.path().join("volumes/data")).unwrap();
    let dockerfile = "\
FROM scratch
COPY root /
COPY --chown=65532:65532 volumes /
USER 65532:65532
ENV TALARIA_CONFIG=/etc/talaria/talaria.yaml
WORKDIR /data
VOLUME /data
ENTRYPOINT [\"talaria\"]
CMD [\"up\"]
";
    fs::write(directory.path().join("Dockerfile"), dockerfile).unwrap();
    directory
}
