//! The manifests of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use restante::internals::config::{Need, Program, VARIABLES};
use serde_json::{Value, json};

use super::{assert_fits, drain_seconds, program_of};
use crate::support::compose_file::{ComposeFile, project_file};
use crate::tidy::files;

const FOLDER: &str = "deploy/kubernetes";

fn kustomization() -> Value {
    serde_saphyr::from_str(&project_file(&format!("{FOLDER}/kustomization.yaml"))).unwrap()
}

/// The objects that the kustomization lists, each with its kind and name.
fn objects() -> Vec<(String, Value)> {
    let resources = kustomization()["resources"].as_array().unwrap().clone();
    let listed: BTreeSet<_> =
        resources.iter().map(|name| format!("{FOLDER}/{}", name.as_str().unwrap())).collect();
    let there: BTreeSet<_> = files(FOLDER, &[".yaml"]).into_iter().map(|file| file.path).collect();
    let kustomization = BTreeSet::from([format!("{FOLDER}/kustomization.yaml")]);
    assert_eq!(&there - &kustomization, listed);
    let texts = listed.iter().map(|path| project_file(path));
    let objects: Vec<Value> =
        texts.flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap()).collect();
    let name = |object: &Value| {
        format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    };
    objects.into_iter().map(|object| (name(&object), object)).collect()
}

/// What has pods: their template, and that of their one container.
fn workloads() -> Vec<(String, Value, Value)> {
    let of_pods = objects().into_iter().filter(|(_, object)| !object["spec"]["template"].is_null());
    let workloads: Vec<_> = of_pods
        .map(|(name, object)| {
            let pod = object["spec"]["template"].clone();
            let containers = pod["spec"]["containers"].as_array().unwrap();
            assert_eq!(containers.len(), 1, "{name}");
            (name, pod.clone(), containers[0].clone())
        })
        .collect();
    assert_eq!(workloads.len(), 3);
    workloads
}

fn variables(container: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let env = container["env"].as_array().unwrap();
    env.iter().map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

#[test]
fn the_image_is_that_of_this_version_and_every_container_uses_it() {
    let image = &kustomization()["images"][0];
    assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"));
    for (name, _, container) in workloads() {
        assert_eq!(container["image"], image["name"], "{name}");
    }
}

#[test]
fn a_container_gets_the_variables_that_its_program_needs() {
    for (name, pod, container) in workloads() {
        let program = program_of(container["command"][0].as_str().unwrap());
        let variables = variables(&container);
        assert_fits(&name, program, &variables);
        if program != Program::Tool {
            let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert!(grace > drain_seconds(program, &variables), "{name}: it would be killed while it drains");
        }
    }
}

#[test]
fn a_pod_may_do_nothing_that_it_need_not() {
    let namespace = objects().into_iter().find(|(name, _)| name == "Namespace restante").unwrap().1;
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    for (name, pod, container) in workloads() {
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
        let of_pod = &pod["spec"]["securityContext"];
        assert_eq!(
            (&of_pod["runAsNonRoot"], &of_pod["runAsUser"], &of_pod["seccompProfile"]),
            (&json!(true), &json!(65532), &json!({ "type": "RuntimeDefault" })),
            "{name}"
        );
        assert!(project_file("Dockerfile").contains("USER 65532:65532"));
        let expected = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] }
        });
        assert_eq!(container["securityContext"], expected, "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
    }
}

#[test]
fn the_secrets_that_a_pod_mounts_are_made_from_files_and_have_what_it_reads() {
    let made = ComposeFile::read().secrets;
    let mut generated: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for secret in kustomization()["secretGenerator"].as_array().unwrap() {
        for file in secret["files"].as_array().unwrap() {
            let (key, path) = file.as_str().unwrap().split_once('=').unwrap();
            let path = path.strip_prefix("secrets/").unwrap();
            assert!(made.contains_key(path), "deploy/make-secrets makes no {path}");
            generated.entry(secret["name"].as_str().unwrap().to_owned()).or_default().insert(key.to_owned());
        }
    }
    for (name, pod, container) in workloads() {
        let secret = pod["spec"]["volumes"][0]["secret"]["secretName"].as_str().unwrap();
        let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
        let read: BTreeSet<_> = variables(&container)
            .into_iter()
            .filter(|(name, _)| name.ends_with("_FILE"))
            .map(|(_, path)| path.strip_prefix(&format!("{mount}/")).unwrap().to_owned())
            .collect();
        assert_eq!(generated[secret], read, "{name}");
    }
}

#[test]
fn probes_and_services_ask_the_ports_that_the_programs_listen_on() {
    let mut named = BTreeSet::new();
    for (name, _, container) in workloads() {
        let program = program_of(container["command"][0].as_str().unwrap());
        if program == Program::Tool {
            continue;
        }
        let variables = variables(&container);
        let port = |variable: &str| variables[variable].rsplit(':').next().unwrap().parse::<u64>().unwrap();
        let of = |port_name: &str| {
            let ports = container["ports"].as_array().unwrap();
            ports
                .iter()
                .find(|port| port["name"] == port_name)
                .map(|port| port["containerPort"].as_u64().unwrap())
        };
        assert_eq!(of("ops"), Some(port("RESTANTE_OPS_LISTEN")), "{name}");
        let default = VARIABLES.iter().find(|v| v.name == "RESTANTE_OPS_LISTEN").unwrap().need(program);
        let Some(Need::Default(default)) = default else { panic!() };
        assert!(default.ends_with(&format!(":{}", of("ops").unwrap())), "{name}: the usual port");
        if program == Program::Ingest {
            assert_eq!(of("webhooks"), Some(port("RESTANTE_LISTEN")), "{name}");
        }
        for (probe, path) in
            [("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
        {
            assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "ops" }), "{name}");
        }
        named.extend(
            container["ports"].as_array().unwrap().iter().map(|port| port["name"].clone().to_string()),
        );
    }
    let objects: BTreeMap<_, _> = objects().into_iter().collect();
    assert_eq!(objects["Service restante-ingest"]["spec"]["ports"][0]["targetPort"], "webhooks");
    let rule = &objects["Ingress restante"]["spec"]["rules"][0]["http"]["paths"][0];
    assert_eq!(
        (&rule["path"], &rule["backend"]["service"]["name"]),
        (&json!("/webhooks/"), &json!("restante-ingest"))
    );
    for allowed in objects["NetworkPolicy restante"]["spec"]["ingress"].as_array().unwrap() {
        assert!(named.contains(&allowed["ports"][0]["port"].to_string()), "{allowed}");
    }
}

#[test]
fn what_selects_pods_finds_them_and_an_ingest_is_always_there() {
    let objects: BTreeMap<_, _> = objects().into_iter().collect();
    for part in ["ingest", "worker"] {
        let deployment = &objects[&format!("Deployment restante-{part}")]["spec"];
        let labels = &deployment["template"]["metadata"]["labels"];
        assert_eq!(deployment["selector"]["matchLabels"], *labels, "{part}");
        assert!(deployment["replicas"].as_u64().unwrap() >= 2, "{part}");
        assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0, "{part}");
        let budget = &objects[&format!("PodDisruptionBudget restante-{part}")]["spec"];
        assert_eq!(budget["selector"]["matchLabels"], *labels, "{part}");
    }
    let ingest = &objects["Deployment restante-ingest"]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(objects["Service restante-ingest"]["spec"]["selector"], *ingest);
    assert_eq!(objects["PodDisruptionBudget restante-ingest"]["spec"]["minAvailable"], 1);
}
