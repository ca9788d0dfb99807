{{/* Values that cannot work, each with a sentence. values.schema.json has what is wrong with a single one. */}}
{{- define "talaria.validate" -}}
{{- $values := .Values -}}
{{- $isHa := include "talaria.isHa" . -}}
{{- $faults := list -}}
{{- $config := include "talaria.config" . | fromYaml -}}

{{- /* The configuration. */ -}}
{{- if and $values.existingConfigMap (or $values.config.tenants (omit $values.config "tenants")) -}}
{{- $faults = append $faults "config has to be empty with existingConfigMap: what stands there would not be used" -}}
{{- end -}}
{{- $relay := $config.relay | default dict -}}
{{- $isGuarded := or $values.existingConfigMap $relay.tokens (get ($relay.tls | default dict) "client_ca") -}}
{{- range $what := list "console" "grpc" -}}
{{- if and (get $values $what).enabled (not $isGuarded) -}}
{{- $faults = append $faults (printf "%s.enabled needs config.relay.tokens, which `talaria token` makes, or config.relay.tls.client_ca: without them everybody who reaches the Service could read and control everything" $what) -}}
{{- end -}}
{{- end -}}
{{- if and $values.check.enabled $values.createNamespace -}}
{{- $faults = append $faults "check.enabled does not go with createNamespace: the Job would run before the namespace is there" -}}
{{- end -}}

{{- /* Secrets. */ -}}
{{- $names := list "openrouter" "hermes" "nats" -}}
{{- $roles := list -}}
{{- range $values.secrets.extra -}}
{{- if has .name $names -}}
{{- $faults = append $faults (printf "secrets.extra has the name %s, which is taken: /secrets/%s can be one Secret alone" .name .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- $roles = concat $roles (.for | default (list "ingress" "relay")) -}}
{{- end -}}
{{- if not (or $values.secrets.openrouter (has "ingress" $roles)) -}}
{{- $faults = append $faults "secrets.openrouter may be empty only where secrets.extra has a Secret for ingresses" -}}
{{- end -}}
{{- if not (or $values.secrets.hermes (has "relay" $roles)) -}}
{{- $faults = append $faults "secrets.hermes may be empty only where secrets.extra has a Secret for relays" -}}
{{- end -}}

{{- /* Labels. */ -}}
{{- range $where, $labels := dict "commonLabels" $values.commonLabels "pods.labels" $values.pods.labels -}}
{{- range $key, $_ := $labels -}}
{{- if regexMatch "^(app[.]kubernetes[.]io|talaria)/|^helm[.]sh/chart$" $key -}}
{{- $faults = append $faults (printf "%s has %s, which this chart sets" $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The public name. */ -}}
{{- with $values.publicName -}}
{{- if and .enabled (not (include "talaria.hosts" $ | fromYaml).names) -}}
{{- $faults = append $faults "publicName.enabled needs publicName.host or publicName.hosts" -}}
{{- end -}}
{{- if and .gateway.parentRefs (or .className .tlsSecret) -}}
{{- $faults = append $faults "publicName.className and publicName.tlsSecret are of an Ingress: with publicName.gateway.parentRefs it is the Gateway that has a class and the certificate" -}}
{{- end -}}
{{- end -}}

{{- /* How many. */ -}}
{{- with $values.ingress.autoscaling -}}
{{- if and $isHa .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $faults = append $faults "ingress.autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- with $values.relay.keda -}}
{{- if and $isHa .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $faults = append $faults "relay.keda.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end -}}

{{- /* How long pods may take to end. */ -}}
{{- $linger := include "talaria.seconds" (get ($config.ingress | default dict) "linger" | default "0s" | toString) | float64 -}}
{{- $drain := include "talaria.seconds" (get ($config.relay | default dict) "drain" | default "30s" | toString) | float64 -}}
{{- $grace := $values.single.terminationGracePeriodSeconds -}}
{{- if and (not $isHa) (gt (addf $linger $drain 5) (float64 $grace)) -}}
{{- $faults = append $faults (printf "single.terminationGracePeriodSeconds is %v, which is less than ingress.linger, relay.drain and 5 s: pods would be killed at work" $grace) -}}
{{- end -}}
{{- $grace = $values.ingress.terminationGracePeriodSeconds -}}
{{- if and $isHa (gt (addf $linger 25) (float64 $grace)) -}}
{{- $faults = append $faults (printf "ingress.terminationGracePeriodSeconds is %v, which is less than ingress.linger and 25 s for what has begun: pods would be killed at work" $grace) -}}
{{- end -}}
{{- $grace = $values.relay.terminationGracePeriodSeconds -}}
{{- if and $isHa (gt (addf $drain 5) (float64 $grace)) -}}
{{- $faults = append $faults (printf "relay.terminationGracePeriodSeconds is %v, which is less than relay.drain and 5 s: pods would be killed at work" $grace) -}}
{{- end -}}

{{- /* NATS. */ -}}
{{- with $values.nats -}}
{{- range $what := list "credentials" "certificates" -}}
{{- $both := get $values.nats $what -}}
{{- if ne (empty $both.ingress) (empty $both.relay) -}}
{{- $faults = append $faults (printf "nats.%s needs a Secret for ingress and one for relay, or none" $what) -}}
{{- end -}}
{{- end -}}
{{- range $what := list "credentials" "certificates" -}}
{{- $those := get $values.nats $what -}}
{{- if and $isHa $values.backup.enabled $those.ingress (not $those.backup) -}}
{{- $faults = append $faults (printf "backup.enabled needs a Secret under nats.%s.backup, as ingress and relay have one" $what) -}}
{{- end -}}
{{- end -}}
{{- if and $isHa (not .bundled) (not .servers) -}}
{{- $faults = append $faults "nats.servers has to name your servers where nats.bundled is false" -}}
{{- end -}}
{{- if and (include "talaria.hasUsers" $) .credentials.ingress -}}
{{- $faults = append $faults "nats.users and nats.credentials do not go together: a connection has one user. Credentials need nats.users.enabled: false" -}}
{{- end -}}
{{- if and .tls.secret (not .bundled) -}}
{{- $faults = append $faults "nats.tls.secret is for servers that are bundled: those of your own have their certificates, and nats.certificates has yours" -}}
{{- end -}}
{{- if include "talaria.hasNats" $ -}}
{{- if .certificates.ingress -}}
{{- $faults = append $faults "nats.certificates is for servers of your own: those that are bundled know users by their keys, and have TLS by nats.tls.secret" -}}
{{- end -}}
{{- if ne (int .replicas) 3 -}}
{{- $faults = append $faults "nats.replicas has to be 3 where nats.bundled is true: one server that is gone would stop everything" -}}
{{- end -}}
{{- $store := include "talaria.bytes" .storage.maxFileStore | float64 -}}
{{- if gt (include "talaria.bytes" .maxBytes | float64) $store -}}
{{- $faults = append $faults (printf "nats.maxBytes (%s) is more than nats.storage.maxFileStore (%s)" .maxBytes .storage.maxFileStore) -}}
{{- end -}}
{{- if gt $store (include "talaria.bytes" .storage.size | float64) -}}
{{- $faults = append $faults (printf "nats.storage.maxFileStore (%s) is more than nats.storage.size (%s)" .storage.maxFileStore .storage.size) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- with $faults -}}
{{- fail (printf "\n\n%s\n" (join "\n" .)) -}}
{{- end -}}
{{- end -}}

{{/* A time of Talaria's configuration, such as 500ms, 30s or 2h, in seconds. */}}
{{- define "talaria.seconds" -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $seconds := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- mulf (trimSuffix $unit . | float64) (get $seconds $unit | default 0.0) -}}
{{- end -}}

{{/* A number of bytes with a unit of Kubernetes, Talaria or NATS, for whom GB is 1024 MB. */}}
{{- define "talaria.bytes" -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $unit := trimPrefix $number . -}}
{{- $decimal := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 -}}
{{- $binary := dict "K" 1024.0 "M" 1048576.0 "G" 1073741824.0 "T" 1099511627776.0 -}}
{{- $factor := hasKey $decimal $unit | ternary (get $decimal $unit) (get $binary (trunc 1 $unit)) -}}
{{- mulf (float64 $number) $factor -}}
{{- end -}}
