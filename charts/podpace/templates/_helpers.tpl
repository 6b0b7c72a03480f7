{{/* Labels of every object. (dict "root" $ "component" "webhook") */}}
{{- define "podpace.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: podpace
{{ include "podpace.selector" . }}
{{- end }}

{{/* What selects pods; it cannot be changed after installation. */}}
{{- define "podpace.selector" -}}
app.kubernetes.io/name: podpace
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* (dict "root" $ "image" .Values.webhook.image) */}}
{{- define "podpace.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{/* The policy's keys as the ConfigMap has them, for example ingress.burst.max. */}}
{{- define "podpace.policyData" -}}
{{- $p := .Values.policy -}}
{{- range $direction := list "ingress" "egress" }}
{{- range $value, $key := dict "default" "default" "min" "min" "max" "max" "burstMax" "burst.max" }}
{{- with get (get $p $direction) $value }}
{{ $direction }}.{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with $p.onViolation }}
on-violation: {{ . | quote }}
{{- end }}
{{- with $p.require }}
require: {{ . | quote }}
{{- end }}
{{- if not (kindIs "invalid" $p.takeOver) }}
take-over: {{ $p.takeOver | quote }}
{{- end }}
{{- with $p.mode }}
mode: {{ . | quote }}
{{- end }}
{{- with $p.readinessGate }}
readiness-gate: {{ . | quote }}
{{- end }}
{{- with $p.exemptCidrs }}
exempt-cidrs: {{ join "," . | quote }}
{{- end }}
{{- end }}

{{/* Security context of the containers that need nothing of the node. */}}
{{- define "podpace.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The Secret with the webhook's certificate, where it comes from elsewhere. */}}
{{- define "podpace.certificateSecret" -}}
{{- if eq .Values.webhook.certificates.mode "certManager" -}}
podpace-webhook-tls
{{- else -}}
{{ .Values.webhook.certificates.secret.name }}
{{- end -}}
{{- end }}

{{/* Annotations of what exists for `helm uninstall` only; the argument is the weight. */}}
{{- define "podpace.uninstallHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* Annotations of what exists for `helm test` only; the argument is the weight. */}}
{{- define "podpace.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
