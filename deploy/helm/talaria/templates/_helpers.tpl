{{/* What names begin with: the release's name, with the chart's behind it where it does not say it already. */}}
{{- define "talaria.name" -}}
{{- $chart := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $chart .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $chart | trunc 40 | trimSuffix "-" -}}
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
{{- with merge (dict) (.labels | default dict) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An object's metadata. Takes what its labels take, its name (object), and labels and annotations of its own. */}}
{{- define "talaria.metadata" -}}
name: {{ .object }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "talaria.labels" . | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "talaria.isHa" -}}
{{- if eq .Values.mode "ha" }}true{{ end -}}
{{- end -}}

{{/* NATS of our own. */}}
{{- define "talaria.hasNats" -}}
{{- if and (include "talaria.isHa" .) .Values.nats.bundled }}true{{ end -}}
{{- end -}}

{{/* Talaria shows NATS a key: of our own, unless the values say otherwise. */}}
{{- define "talaria.hasUsers" -}}
{{- $own := .Values.nats.users.enabled -}}
{{- if and (include "talaria.isHa" .) ((kindIs "bool" $own) | ternary $own .Values.nats.bundled) }}true{{ end -}}
{{- end -}}

{{/* A tenant has jobs at OpenRouter, which ingresses submit and poll, or may have. */}}
{{- define "talaria.hasJobs" -}}
{{- if .Values.existingConfigMap -}}true{{- end -}}
{{- range .Values.config.tenants -}}
{{- with . -}}{{- with .openrouter -}}{{- if .api_key -}}true{{- end -}}{{- end -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether a part of monitoring is wanted. Takes the root, and the part's name. */}}
{{- define "talaria.monitors" -}}
{{- $own := (get .root.Values.monitoring .part).enabled -}}
{{- if (kindIs "bool" $own) | ternary $own .root.Values.monitoring.enabled }}true{{ end -}}
{{- end -}}

{{/* NATS of our own has figures for Prometheus. */}}
{{- define "talaria.hasExporter" -}}
{{- if and (include "talaria.hasNats" .) .Values.nats.exporter.enabled }}true{{ end -}}
{{- end -}}

{{/* The public names, as a list under `names`. */}}
{{- define "talaria.hosts" -}}
{{- dict "names" (prepend .Values.publicName.hosts .Values.publicName.host | compact | uniq) | toYaml -}}
{{- end -}}

{{- define "talaria.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "talaria.name" .) "default") -}}
{{- end -}}

{{- define "talaria.image" -}}
{{- $image := .root.Values.image -}}
{{- include "talaria.imageOf" (dict "repository" $image.repository "digest" $image.digest "tag" ($image.tag | default .root.Chart.AppVersion)) -}}
{{- end -}}

{{- define "talaria.imageOf" -}}
{{ .repository }}{{ with .digest }}@{{ . }}{{ else }}:{{ .tag }}{{ end }}
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
