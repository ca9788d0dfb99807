{{/* talaria.yaml: what this chart knows, and before it what the values say. */}}
{{- define "talaria.config" -}}
{{- /* Controllers and gateways come from the cluster's own addresses, and say whose a request is. */ -}}
{{- $ingress := dict "listen" "0.0.0.0:8080" "trusted_proxies" (list "loopback" "private") -}}
{{- if .Values.publicName.enabled -}}
{{- with (include "talaria.hosts" . | fromYaml).names -}}
{{- $_ := set $ingress "public_url" (printf "https://%s" (first .)) -}}
{{- end -}}
{{- end -}}
{{- $config := dict "ingress" $ingress "admin" (dict "listen" "0.0.0.0:9090") "data_dir" "/data" -}}
{{- if .Values.grpc.enabled -}}
{{- $_ := set $config "relay" (dict "grpc" "0.0.0.0:50051") -}}
{{- end -}}
{{- if .Values.console.enabled -}}
{{- $service := printf "%s-console" (include "talaria.name" .) -}}
{{- $inNamespace := printf "%s.%s" $service .Release.Namespace -}}
{{- $names := list $service $inNamespace (printf "%s.svc" $inNamespace) (printf "%s.svc.cluster.local" $inNamespace) -}}
{{- $_ := set $config "console" (dict "listen" "0.0.0.0:8090" "names" (concat .Values.console.names $names)) -}}
{{- end -}}
{{- if include "talaria.isHa" . -}}
{{- $_ := set $config.ingress "linger" .Values.ingress.linger -}}
{{- $nats := dict "replicas" .Values.nats.replicas "max_bytes" .Values.nats.maxBytes -}}
{{- if .Values.nats.bundled -}}
{{- $servers := list -}}
{{- $name := printf "%s-nats" (include "talaria.name" .) -}}
{{- range $number := until 3 -}}
{{- $scheme := empty $.Values.nats.tls.secret | ternary "nats" "tls" -}}
{{- $servers = append $servers (printf "%s://%s-%d.%s:4222" $scheme $name $number $name) -}}
{{- end -}}
{{- $_ := set $nats "servers" $servers -}}
{{- if .Values.nats.tls.secret -}}
{{- $_ := set $nats "tls" (dict "ca" "/certs/nats/ca.crt") -}}
{{- end -}}
{{- else -}}
{{- $_ := set $nats "servers" .Values.nats.servers -}}
{{- end -}}
{{- if include "talaria.hasUsers" . -}}
{{- $_ := set $nats "nkey" (dict "file" "/secrets/nats/nkey") -}}
{{- end -}}
{{- if .Values.nats.credentials.ingress -}}
{{- $_ := set $nats "creds" (dict "file" "/secrets/nats/nats.creds") -}}
{{- end -}}
{{- if .Values.nats.certificates.ingress -}}
{{- $_ := set $nats "tls" (dict "ca" "/certs/nats/ca.crt" "cert" "/certs/nats/tls.crt" "key" "/certs/nats/tls.key") -}}
{{- end -}}
{{- $_ := set $config "bus" (dict "nats" $nats) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) -}}
{{- end -}}

{{/* A fingerprint of the keys that a process reads at its start alone (docs/changes.md). Takes the root, and what the pod does. */}}
{{- define "talaria.restartKeys" -}}
{{- $config := include "talaria.config" .root | fromYaml -}}
{{- $listens := dict -}}
{{- range $part := list "admin" "ingress" "console" -}}
{{- $_ := set $listens $part (get (get $config $part | default dict) "listen") -}}
{{- end -}}
{{- $keys := dict "admin" $listens.admin "bus" $config.bus "telemetry" $config.telemetry -}}
{{- if has "ingress" .does -}}
{{- $_ := set $keys "ingress" $listens.ingress -}}
{{- end -}}
{{- if has "relay" .does -}}
{{- $_ := set $keys "grpc" (get ($config.relay | default dict) "grpc") -}}
{{- $_ := set $keys "console" $listens.console -}}
{{- $_ := set $keys "data_dir" $config.data_dir -}}
{{- end -}}
{{- toJson $keys | sha256sum -}}
{{- end -}}
