{{/* Settings and secrets of the server. */}}

{{/* Nested settings as ROUNDTABLE__SECTION__KEY: value lines. Helm reads all numbers as floats: whole ones are written as such. */}}
{{- define "roundtable.flatten" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .map }}
{{- $name := printf "%s__%s" $prefix (upper $key) }}
{{- if kindIs "map" $value }}
{{- include "roundtable.flatten" (dict "prefix" $name "map" $value) }}
{{- else if kindIs "slice" $value }}
{{ $name }}: {{ join "," $value | quote }}
{{- else if or (kindIs "float64" $value) (kindIs "int64" $value) (kindIs "int" $value) }}
{{ $name }}: {{ ternary (int64 $value | toString) (toString $value) (eq (int64 $value | float64) (float64 $value)) | quote }}
{{- else }}
{{ $name }}: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "roundtable.shutdownSeconds" -}}
{{- dig "server" "shutdown_s" 25 .Values.settings | int64 -}}
{{- end -}}

{{- define "roundtable.graceSeconds" -}}
{{- add (include "roundtable.shutdownSeconds" . | int64) (int64 .Values.drain.preStopSeconds) (int64 .Values.drain.marginSeconds) -}}
{{- end -}}

{{/* Whether there is ever more than one node. */}}
{{- define "roundtable.several" -}}
{{- if or (and .Values.autoscaling.enabled (gt (int .Values.autoscaling.maxReplicas) 1)) (and (not .Values.autoscaling.enabled) (gt (int .Values.replicaCount) 1)) -}}
true
{{- end -}}
{{- end -}}

{{/* The secrets that are there, as a list of {name, env, secret, key}. */}}
{{- define "roundtable.secrets" -}}
{{- $secrets := .Values.secrets -}}
{{- $generated := include "roundtable.generatedName" . -}}
{{- $found := list -}}
{{- $known := list
  (dict "value" "storeUrl" "env" "STORE__URL_FILE" "made" .Values.postgresql.enabled)
  (dict "value" "redisUrl" "env" "CLUSTER__REDIS_URL_FILE" "made" .Values.redis.enabled)
  (dict "value" "jwtSecret" "env" "AUTH__JWT__SECRET_FILE" "made" .Values.secrets.jwtSecret.generate)
  (dict "value" "attachmentsUrl" "env" "ATTACHMENTS__URL_FILE" "made" false)
  (dict "value" "attachmentsSecret" "env" "ATTACHMENTS__SECRET_FILE" "made" false)
  (dict "value" "oidcClientSecret" "env" "AUTH__OIDC__CLIENT_SECRET_FILE" "made" false)
  (dict "value" "beforeSendSecret" "env" "HOOKS__BEFORE_SEND__SECRET_FILE" "made" false)
  (dict "value" "encryptionKeys" "env" "ENCRYPTION__KEYS_FILE" "made" false)
  (dict "value" "sentryDsn" "env" "SENTRY__DSN_FILE" "made" false)
  (dict "value" "tracesHeaders" "env" "TRACES__HEADERS_FILE" "made" false) -}}
{{- range $known -}}
{{- $given := index $secrets .value -}}
{{- $file := .value | kebabcase -}}
{{- if $given.existingSecret -}}
{{- $found = append $found (dict "file" $file "env" .env "secret" $given.existingSecret "key" $given.key) -}}
{{- else if .made -}}
{{- $found = append $found (dict "file" $file "env" .env "secret" $generated "key" $file) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Where secrets are mounted; `only`: the file names that count, empty for all. */}}
{{- define "roundtable.secretSources" -}}
{{- $only := .only -}}
{{- range include "roundtable.secrets" .root | fromJsonArray }}
{{- if or (not $only) (has .file $only) }}
- secret:
    name: {{ .secret }}
    items:
      - key: {{ .key }}
        path: {{ .file }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "roundtable.secretEnv" -}}
{{- $only := .only -}}
{{- range include "roundtable.secrets" .root | fromJsonArray }}
{{- if or (not $only) (has .file $only) }}
- name: ROUNDTABLE__{{ .env }}
  value: /run/secrets/roundtable/{{ .file }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What no schema can say: relations between values. Every object that matters includes it. */}}
{{- define "roundtable.check" -}}
{{- $v := .Values -}}
{{- if and $v.postgresql.enabled $v.secrets.storeUrl.existingSecret -}}
{{- fail "postgresql.enabled and secrets.storeUrl.existingSecret: only one of the two; turn postgresql off where a database is given" -}}
{{- end -}}
{{- if not (or $v.postgresql.enabled $v.secrets.storeUrl.existingSecret) -}}
{{- fail "secrets.storeUrl.existingSecret: name a Secret with the address of PostgreSQL, or turn postgresql.enabled on to try things out" -}}
{{- end -}}
{{- if and $v.redis.enabled $v.secrets.redisUrl.existingSecret -}}
{{- fail "redis.enabled and secrets.redisUrl.existingSecret: only one of the two; turn redis off where one is given" -}}
{{- end -}}
{{- if and (include "roundtable.several" .) (not (or $v.redis.enabled $v.secrets.redisUrl.existingSecret)) -}}
{{- fail "secrets.redisUrl.existingSecret: several nodes need Redis; name a Secret with its address, or turn redis.enabled on to try things out" -}}
{{- end -}}
{{- if and $v.secrets.jwtSecret.generate $v.secrets.jwtSecret.existingSecret -}}
{{- fail "secrets.jwtSecret: generate and existingSecret exclude each other" -}}
{{- end -}}
{{- if and $v.secrets.attachmentsUrl.existingSecret (dig "attachments" "url" "" $v.settings) -}}
{{- fail "secrets.attachmentsUrl.existingSecret and settings.attachments.url: only one of the two" -}}
{{- end -}}
{{- if and (ne (dig "encryption" "rooms" "none" $v.settings) "none") (not $v.secrets.encryptionKeys.existingSecret) -}}
{{- fail "secrets.encryptionKeys.existingSecret: settings.encryption.rooms needs keys" -}}
{{- end -}}
{{- if and $v.backup.enabled (not (or $v.backup.remote $v.backup.storage.existingClaim)) -}}
{{- fail "backup.remote: backups need a place to be kept; give a destination, or a volume with backup.storage.existingClaim" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas: at most autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (eq (int $v.autoscaling.targetCPUUtilizationPercentage) 0) (eq (int $v.autoscaling.targetSessionsPerPod) 0) -}}
{{- fail "autoscaling: one of targetCPUUtilizationPercentage and targetSessionsPerPod has to be above 0" -}}
{{- end -}}
{{- if and $v.podDeletionCost.enabled (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- fail "podDeletionCost.enabled: needs a service account of its own; name one with serviceAccount.name, or let it be made with serviceAccount.create" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- fail "ingress.hosts: an Ingress needs the names that it serves" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: an HTTPRoute needs a gateway" -}}
{{- end -}}
{{- if and (gt (int $v.httpRoute.canary.weight) 0) (not $v.httpRoute.canary.service) -}}
{{- fail "httpRoute.canary.service: a weight needs a Service" -}}
{{- end -}}
{{- if and (eq (int $v.rollout.maxSurge) 0) (eq (int $v.rollout.maxUnavailable) 0) -}}
{{- fail "rollout: maxSurge and maxUnavailable can't both be 0" -}}
{{- end -}}
{{- end -}}
