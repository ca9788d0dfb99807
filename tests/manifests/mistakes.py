"""Values that the chart has to refuse, and values that it has to take."""

TOKENS = {"tokens": [{"name": "ops", "scope": "read", "hashes": ["sha256:" + "0" * 64]}]}
# Values that are mistakes, each for another reason, and a part of what is said about it.
MISTAKES = [
    ({"mode": "cluster"}, "/mode"),
    ({"replicas": 2}, "'replicas' not allowed"),
    ({"relay": {"keda": {"enable": True}}}, "'enable' not allowed"),
    ({"config": {"tenants": []}}, "/config/tenants"),
    ({"single": {"storage": {"size": 10}}}, "/single/storage/size"),
    ({"nats": {"servers": ["nats://user:secret@nats:4222"]}}, "/nats/servers/0"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"secrets": {"extra": [{"name": "acme"}]}}, "/secrets/extra/0"),
    ({"ingress": {"replicas": 0}}, "/ingress/replicas"),
    ({"existingConfigMap": "mine", "config": {"retention": "1d"}}, "config has to be empty"),
    ({"console": {"enabled": True}}, "console.enabled needs config.relay.tokens"),
    ({"grpc": {"enabled": True}}, "grpc.enabled needs config.relay.tokens"),
    ({"check": {"enabled": True}, "createNamespace": True}, "check.enabled does not go with createNamespace"),
    ({"secrets": {"openrouter": ""}}, "secrets.openrouter may be empty only where"),
    ({"secrets": {"hermes": "", "extra": [{"name": "a", "secret": "a", "for": ["ingress"]}]}}, "secrets.hermes may be empty"),
    ({"secrets": {"extra": [{"name": "hermes", "secret": "a"}]}}, "secrets.extra has the name hermes"),
    ({"secrets": {"extra": [{"name": "a", "secret": "a"}, {"name": "a", "secret": "b"}]}}, "secrets.extra has the name a"),
    ({"commonLabels": {"app.kubernetes.io/name": "mine"}}, "commonLabels has app.kubernetes.io/name"),
    ({"pods": {"labels": {"talaria/relay": "false"}}}, "pods.labels has talaria/relay"),
    ({"publicName": {"enabled": True}}, "publicName.enabled needs publicName.host"),
    (
        {"publicName": {"enabled": True, "host": "a.example.com", "tlsSecret": "a", "gateway": {"parentRefs": [{"name": "b"}]}}},
        "publicName.tlsSecret are of an Ingress",
    ),
    ({"mode": "ha", "ingress": {"autoscaling": {"minReplicas": 11}}}, "ingress.autoscaling.minReplicas is more"),
    ({"mode": "ha", "relay": {"keda": {"enabled": True, "maxReplicas": 1}}}, "relay.keda.minReplicas is more"),
    ({"config": {"relay": {"drain": "1m"}}}, "single.terminationGracePeriodSeconds is 60"),
    ({"mode": "ha", "ingress": {"linger": "36s"}}, "ingress.terminationGracePeriodSeconds is 60"),
    ({"mode": "ha", "config": {"ingress": {"linger": "1m"}}}, "ingress.terminationGracePeriodSeconds is 60"),
    ({"mode": "ha", "config": {"relay": {"drain": "56s"}}}, "relay.terminationGracePeriodSeconds is 60"),
    ({"nats": {"credentials": {"ingress": "one"}}}, "nats.credentials needs a Secret for ingress and one for relay"),
    ({"nats": {"users": {"ingress": ""}}}, "/nats/users/ingress"),
    (
        {"mode": "ha", "nats": {"credentials": {"ingress": "one", "relay": "two"}}},
        "nats.users and nats.credentials do not go together",
    ),
    (
        {"mode": "ha", "nats": {"certificates": {"ingress": "one", "relay": "two"}}},
        "nats.certificates is for servers of your own",
    ),
    (
        {"mode": "ha", "nats": {"bundled": False, "servers": ["tls://nats"], "tls": {"secret": "a"}}},
        "nats.tls.secret is for servers that are bundled",
    ),
    (
        {
            "mode": "ha",
            "backup": {"enabled": True},
            "nats": {
                "bundled": False,
                "servers": ["tls://nats"],
                "certificates": {"ingress": "one", "relay": "two"},
            },
        },
        "backup.enabled needs a Secret under nats.certificates.backup",
    ),
    ({"backup": {"keep": 0}}, "/backup/keep"),
    ({"mode": "ha", "nats": {"bundled": False}}, "nats.servers has to name your servers"),
    ({"mode": "ha", "nats": {"replicas": 1}}, "nats.replicas has to be 3"),
    ({"mode": "ha", "nats": {"maxBytes": "10GiB"}}, "nats.maxBytes (10GiB) is more than nats.storage.maxFileStore (9GB)"),
    ({"mode": "ha", "nats": {"storage": {"size": "9G"}}}, "nats.storage.maxFileStore (9GB) is more than nats.storage.size (9G)"),
]
# Values at the limit of what is refused, and what the chart cannot look into.
NO_MISTAKES = [
    {"mode": "ha", "ingress": {"linger": "35s"}, "config": {"relay": {"drain": "55s"}}},
    {"mode": "ha", "nats": {"maxBytes": "9GiB", "storage": {"size": "9Gi"}}},
    {"mode": "ha", "ingress": {"autoscaling": {"minReplicas": 10}}},
    {
        "mode": "ha",
        "nats": {
            "bundled": False,
            "servers": ["tls://nats"],
            "users": {"enabled": True},
            "certificates": {"ingress": "one", "relay": "two"},
        },
    },
    {"mode": "ha", "nats": {"users": {"enabled": False}}},
    {"mode": "ha", "backup": {"enabled": True}},
    {
        "mode": "ha",
        "backup": {"enabled": True},
        "nats": {
            "bundled": False,
            "servers": ["tls://nats"],
            "credentials": {"ingress": "a", "relay": "b", "backup": "c"},
        },
    },
    {"ingress": {"linger": "10m"}, "nats": {"maxBytes": "1TiB"}},
    {"console": {"enabled": True}, "grpc": {"enabled": True}, "config": {"relay": TOKENS}},
    {"console": {"enabled": True}, "config": {"relay": {"tls": {"cert": "c", "key": "k", "client_ca": "ca"}}}},
    {"console": {"enabled": True}, "existingConfigMap": "mine"},
    {"secrets": {"openrouter": "", "hermes": "", "extra": [{"name": "a", "secret": "a"}]}},
    {"publicName": {"host": "a.example.com", "tlsSecret": "a"}, "serviceAccount": {"create": False}},
    {"config": {"relay": None, "ingress": None, "console": None, "telemetry": None}},
]
