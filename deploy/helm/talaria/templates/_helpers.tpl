{{/* What names begin with: the release's name, with the chart's behind it where it does not say it already. */}}
{{- define "talaria.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are found by. Takes the root, and the component where there is one. */}}
{{- define "talaria.selector" -}}
app.kubernetes.io/name: {{ .name | default "talaria" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* What pods are called by. No version: a new chart would start every pod again, NATS' too. */}}
{{- define "talaria.podLabels" -}}
{{ include "talaria.selector" . }}
app.kubernetes.io/part-of: talaria
{{- end -}}

{{- define "talaria.labels" -}}
{{ include "talaria.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "talaria.isHa" -}}
{{- if eq .Values.mode "ha" }}true{{ end -}}
{{- end -}}

{{/* NATS of our own. */}}
{{- define "talaria.hasNats" -}}
{{- if and (include "talaria.isHa" .) .Values.nats.bundled }}true{{ end -}}
{{- end -}}

{{/* A tenant has jobs at OpenRouter, which ingresses submit and poll. */}}
{{- define "talaria.hasJobs" -}}
{{- range .Values.config.tenants -}}
{{- with . -}}{{- with .openrouter -}}{{- if .api_key -}}true{{- end -}}{{- end -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* talaria.yaml: what this chart knows, and before it what the values say. */}}
{{- define "talaria.config" -}}
{{- /* Controllers and gateways come from the cluster's own addresses, and say whose a request is. */ -}}
{{- $ingress := dict "listen" "0.0.0.0:8080" "trusted_proxies" (list "loopback" "private") -}}
{{- if .Values.publicName.enabled -}}
{{- $_ := set $ingress "public_url" (printf "https://%s" .Values.publicName.host) -}}
{{- end -}}
{{- $config := dict "ingress" $ingress "admin" (dict "listen" "0.0.0.0:9090") "data_dir" "/data" -}}
{{- if include "talaria.isHa" . -}}
{{- $_ := set $config.ingress "linger" .Values.ingress.linger -}}
{{- $nats := dict "replicas" .Values.nats.replicas "max_bytes" .Values.nats.maxBytes -}}
{{- if .Values.nats.bundled -}}
{{- $servers := list -}}
{{- $name := printf "%s-nats" (include "talaria.name" .) -}}
{{- range $number := until 3 -}}
{{- $servers = append $servers (printf "nats://%s-%d.%s:4222" $name $number $name) -}}
{{- end -}}
{{- $_ := set $nats "servers" $servers -}}
{{- else -}}
{{- $_ := set $nats "servers" .Values.nats.servers -}}
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

{{/* What a pod may do, which is nothing. */}}
{{- define "talaria.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "talaria.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Over nodes and zones as evenly as it goes. Takes what pods are found by, and what stands beside; where nodes have to differ
(hosts), on how many (minDomains). */}}
{{- define "talaria.spread" -}}
{{- $selector := .selector -}}
{{- $more := .more -}}
{{- $minDomains := .minDomains -}}
{{- range $key, $when := dict "kubernetes.io/hostname" (.hosts | default "ScheduleAnyway") "topology.kubernetes.io/zone" "ScheduleAnyway" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  {{- if and $minDomains (eq $when "DoNotSchedule") }}
  minDomains: {{ $minDomains }}
  {{- end }}
  whenUnsatisfiable: {{ $when }}
  labelSelector:
    matchLabels:
      {{- $selector | nindent 6 }}
  {{- with $more }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What a pod of Talaria has whatever it does. Takes the root, the role (up, ingress or relay), the container's name,
resources, how many seconds it may take to start, and how long it may take to end. */}}
{{- define "talaria.pod" -}}
{{- $name := include "talaria.name" .root -}}
{{- $takes := ne .role "relay" -}}
{{- $forwards := ne .role "ingress" -}}
{{- $nats := .root.Values.nats -}}
serviceAccountName: {{ $name }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .grace }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- include "talaria.podSecurity" . | nindent 2 }}
containers:
  - name: {{ .container }}
    image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: [{{ .role }}, --config, /etc/talaria/talaria.yaml]
    ports:
      {{- if $takes }}
      - {name: callbacks, containerPort: 8080}
      {{- end }}
      - {name: admin, containerPort: 9090}
    # The process may take a while to open large files.
    startupProbe:
      httpGet: {path: /healthz, port: admin}
      periodSeconds: {{ .startup }}
      failureThreshold: 60
    livenessProbe:
      httpGet: {path: /healthz, port: admin}
      timeoutSeconds: 5
    readinessProbe:
      httpGet: {path: /readyz, port: admin}
      periodSeconds: 5
      timeoutSeconds: 5
    resources:
      {{- toYaml .resources | nindent 6 }}
    securityContext:
      {{- include "talaria.containerSecurity" . | nindent 6 }}
    volumeMounts:
      # Directories and no subPath: files in them change with what they come from.
      - {name: config, mountPath: /etc/talaria, readOnly: true}
      {{- if $takes }}
      - {name: openrouter, mountPath: /secrets/openrouter, readOnly: true}
      {{- end }}
      {{- if $forwards }}
      - {name: hermes, mountPath: /secrets/hermes, readOnly: true}
      - {name: data, mountPath: /data}
      {{- end }}
      {{- if and (ne .role "up") $nats.credentials.ingress }}
      - {name: nats-credentials, mountPath: /secrets/nats, readOnly: true}
      {{- end }}
      {{- if and (ne .role "up") $nats.certificates.ingress }}
      - {name: nats-certificates, mountPath: /certs/nats, readOnly: true}
      {{- end }}
volumes:
  - name: config
    configMap: {name: {{ $name }}}
  {{- if $takes }}
  - name: openrouter
    secret: {secretName: {{ .root.Values.secrets.openrouter }}, defaultMode: 0440, optional: false}
  {{- end }}
  {{- if $forwards }}
  - name: hermes
    secret: {secretName: {{ .root.Values.secrets.hermes }}, defaultMode: 0440, optional: false}
  {{- end }}
  {{- if and (ne .role "up") $nats.credentials.ingress }}
  - name: nats-credentials
    secret: {secretName: {{ get $nats.credentials .role }}, defaultMode: 0440}
  {{- end }}
  {{- if and (ne .role "up") $nats.certificates.ingress }}
  - name: nats-certificates
    secret: {secretName: {{ get $nats.certificates .role }}, defaultMode: 0440}
  {{- end }}
  {{- if eq .role "up" }}
  - name: data
    persistentVolumeClaim: {claimName: {{ .root.Values.single.storage.existingClaim | default (printf "%s-data" $name) }}}
  {{- end }}
{{- end -}}

{{/* What pods of Talaria are called by. Takes the root, the component where there is one, and what it does. */}}
{{- define "talaria.podMeta" -}}
labels:
  {{- include "talaria.podLabels" . | nindent 2 }}
  {{- range .does }}
  talaria/{{ . }}: "true"
  {{- end }}
  {{- with .root.Values.pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.pods.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
