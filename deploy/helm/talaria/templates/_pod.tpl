{{/* What each pod has, NATS' too: where it may run, and with which rights, which are none. */}}
{{- define "talaria.anyPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.pods.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What a pod of Talaria has whatever it does. Takes the root, the role (up, ingress or relay), the container's name,
resources, how many seconds it may take to start, and how long it may take to end. */}}
{{- define "talaria.pod" -}}
{{- $takes := ne .role "relay" -}}
{{- $forwards := ne .role "ingress" -}}
serviceAccountName: {{ include "talaria.serviceAccount" .root }}
terminationGracePeriodSeconds: {{ .grace }}
{{ include "talaria.anyPod" .root }}
containers:
  - name: {{ .container }}
    {{- include "talaria.container" . | nindent 4 }}
    args: [{{ .role }}, --config, /etc/talaria/talaria.yaml]
    ports:
      {{- if $takes }}
      - {name: callbacks, containerPort: 8080}
      {{- end }}
      - {name: admin, containerPort: 9090}
      {{- if and $forwards .root.Values.console.enabled }}
      - {name: console, containerPort: 8090}
      {{- end }}
      {{- if and $forwards .root.Values.grpc.enabled }}
      - {name: grpc, containerPort: 50051}
      {{- end }}
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
    volumeMounts:
      {{- include "talaria.mounts" . | nindent 6 }}
      {{- if $forwards }}
      - {name: data, mountPath: /data}
      {{- end }}
volumes:
  {{- include "talaria.volumes" . | nindent 2 }}
  {{- if eq .role "up" }}
  - name: data
    persistentVolumeClaim: {claimName: {{ .root.Values.single.storage.existingClaim | default (printf "%s-data" (include "talaria.name" .root)) }}}
  {{- end }}
{{- end -}}

{{/* Of a container of Talaria, whatever it runs. */}}
{{- define "talaria.container" -}}
image: {{ include "talaria.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- with .root.Values.pods.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The Secrets of a role: name, secret and path of each, and which of its keys where not all, under `secrets`. A backup (backup) has
those for NATS alone. */}}
{{- define "talaria.secrets" -}}
{{- $role := .role -}}
{{- $values := .root.Values -}}
{{- $found := list -}}
{{- if and (not (has $role (list "relay" "backup"))) $values.secrets.openrouter -}}
{{- $found = append $found (dict "name" "openrouter" "secret" $values.secrets.openrouter "path" "/secrets/openrouter") -}}
{{- end -}}
{{- if and (not (has $role (list "ingress" "backup"))) $values.secrets.hermes -}}
{{- $found = append $found (dict "name" "hermes" "secret" $values.secrets.hermes "path" "/secrets/hermes") -}}
{{- end -}}
{{- range $values.secrets.extra -}}
{{- if and (ne $role "backup") (or (eq $role "up") (not .for) (has $role .for)) -}}
{{- $found = append $found (dict "name" (printf "secret-%s" .name) "secret" .secret "path" (printf "/secrets/%s" .name)) -}}
{{- end -}}
{{- end -}}
{{- $overNats := include "talaria.isHa" .root -}}
{{- if and $overNats (include "talaria.hasUsers" .root) -}}
{{- $found = append $found (dict "name" "nats-user" "secret" (get $values.nats.users $role) "path" "/secrets/nats") -}}
{{- end -}}
{{- if and $overNats (include "talaria.hasNats" .root) $values.nats.tls.secret -}}
{{- /* The authority alone, and not the servers' key. */ -}}
{{- $authority := list (dict "key" "ca.crt" "path" "ca.crt") -}}
{{- $found = append $found (dict "name" "nats-authority" "secret" $values.nats.tls.secret "path" "/certs/nats" "items" $authority) -}}
{{- end -}}
{{- if and $overNats $values.nats.credentials.ingress -}}
{{- $found = append $found (dict "name" "nats-credentials" "secret" (get $values.nats.credentials $role) "path" "/secrets/nats") -}}
{{- end -}}
{{- if and $overNats $values.nats.certificates.ingress -}}
{{- $found = append $found (dict "name" "nats-certificates" "secret" (get $values.nats.certificates $role) "path" "/certs/nats") -}}
{{- end -}}
{{- dict "secrets" $found | toYaml -}}
{{- end -}}

{{/* Where a role finds its configuration and its secrets. Directories and no subPath: files in them change with what they come
from. */}}
{{- define "talaria.mounts" -}}
- {name: config, mountPath: /etc/talaria, readOnly: true}
{{- range (include "talaria.secrets" . | fromYaml).secrets }}
- {name: {{ .name }}, mountPath: {{ .path }}, readOnly: true}
{{- end }}
{{- with .root.Values.pods.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The volumes for that. Takes the ConfigMap where it is another one than usual. */}}
{{- define "talaria.volumes" -}}
- name: config
  configMap: {name: {{ .root.Values.existingConfigMap | default .configMap | default (include "talaria.name" .root) }}}
{{- range (include "talaria.secrets" . | fromYaml).secrets }}
- name: {{ .name }}
  secret: {secretName: {{ .secret }}, defaultMode: 0440, optional: false{{ with .items }}, items: {{ toJson . }}{{ end }}}
{{- end }}
{{- with .root.Values.pods.extraVolumes }}
{{ toYaml . }}
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
{{- $annotations := dict -}}
{{- if not .root.Values.existingConfigMap -}}
{{- $_ := set $annotations "talaria/restart-keys" (include "talaria.restartKeys" .) -}}
{{- end -}}
{{- with merge $annotations .root.Values.pods.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
