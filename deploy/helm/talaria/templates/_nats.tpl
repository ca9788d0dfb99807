{{/* nats.conf, which each of the three servers reads. */}}
{{- define "talaria.natsConf" -}}
{{- $name := printf "%s-nats" (include "talaria.name" .) -}}
{{- $hasUsers := include "talaria.hasUsers" . -}}
# Each of the three servers reads this file; what differs comes from its environment.
server_name: $POD_NAME
port: 4222
# Health for the probes, and figures for the exporter.
http_port: 8222
pid_file: /run/nats/nats.pid
{{- if $hasUsers }}

# Who may connect, and what each may do: `talaria secrets --nats-users` writes it. Everybody else is refused.
include ../nats-users/users.conf
{{- end }}
{{- if .Values.nats.tls.secret }}

tls {
  {{- include "talaria.natsTls" . | nindent 2 }}
}
{{- end }}

jetstream {
  store_dir: /data
  # Less than the volume, so that it is NATS that says it is full.
  max_file_store: {{ .Values.nats.storage.maxFileStore }}
}

cluster {
  name: talaria
  port: 6222
  # Clients know all three by their names.
  no_advertise: true
  {{- if $hasUsers }}
  # The routes below have the same.
  authorization {user: talaria, password: $ROUTES_PASSWORD}
  {{- end }}
  {{- if .Values.nats.tls.secret }}
  tls {
    {{- include "talaria.natsTls" . | nindent 4 }}
  }
  {{- end }}
  routes: [
    {{- range $number := until 3 }}
    {{ empty $hasUsers | ternary (printf "nats://%s-%d.%s:6222" $name $number $name) (printf "$ROUTE_%d" $number) }}
    {{- end }}
  ]
}

# On leaving, leaders move and clients are sent away one after another.
lame_duck_grace_period: 5s
lame_duck_duration: 30s
{{- end -}}

{{- define "talaria.natsTls" -}}
cert_file: /etc/nats-tls/tls.crt
key_file: /etc/nats-tls/tls.key
ca_file: /etc/nats-tls/ca.crt
{{- end -}}

{{/* What a server reads, and the reloader watches. Directories, so that files in them change with what they come from. */}}
{{- define "talaria.natsFiles" -}}
- {name: config, mountPath: /etc/nats, readOnly: true}
{{- if include "talaria.hasUsers" . }}
- {name: users, mountPath: /etc/nats-users, readOnly: true}
{{- end }}
{{- if .Values.nats.tls.secret }}
- {name: tls, mountPath: /etc/nats-tls, readOnly: true}
{{- end }}
{{- end -}}
