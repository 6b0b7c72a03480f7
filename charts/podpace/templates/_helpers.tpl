{{/* What app.kubernetes.io/name says. */}}
{{- define "podpace.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{/* The beginning of every name; not the release's, since nodes take one installation only. */}}
{{- define "podpace.fullname" -}}
{{ .Values.fullnameOverride | default (include "podpace.name" .) }}
{{- end }}

{{/* Where everything is. */}}
{{- define "podpace.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{/* Labels of every object. (dict "root" $ "component" "webhook") */}}
{{- define "podpace.labels" -}}
{{ include "podpace.ownLabels" . }}
{{- with merge (dict) .root.Values.commonLabels (.root.Values.global.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Those of them that are ours to say. */}}
{{- define "podpace.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: podpace
{{ include "podpace.selector" . }}
{{- end }}

{{/* Labels of pods: (dict "root" $ "component" "webhook" "more" .Values.webhook.podLabels) */}}
{{- define "podpace.podLabels" -}}
{{ include "podpace.ownLabels" . }}
{{- with merge (dict) .more .root.Values.commonLabels (.root.Values.global.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What selects pods; it cannot be changed after installation. */}}
{{- define "podpace.selector" -}}
app.kubernetes.io/name: {{ include "podpace.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The service account of a part: (dict "root" $ "component" "webhook") */}}
{{- define "podpace.serviceAccount" -}}
{{- $own := dict -}}
{{- with get .root.Values .component }}{{ $own = .serviceAccount }}{{ end -}}
{{ $own.name | default (printf "%s-%s" (include "podpace.fullname" .root) .component) }}
{{- end }}

{{/* The same as the API server names it. */}}
{{- define "podpace.user" -}}
system:serviceaccount:{{ include "podpace.namespace" .root }}:
{{- if eq .component "uninstall" }}{{ include "podpace.fullname" .root }}-uninstall
{{- else }}{{ include "podpace.serviceAccount" . }}{{ end }}
{{- end }}

{{/* (dict "root" $ "image" .Values.webhook.image) */}}
{{- define "podpace.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- $registry := .image.registry | default .root.Values.image.registry | default .root.Values.global.imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{/* As JSON; global ones may be names. */}}
{{- define "podpace.pullSecrets" -}}
{{- $all := list -}}
{{- range concat (.Values.global.imagePullSecrets | default list) .Values.image.pullSecrets -}}
{{- $all = append $all (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- uniq $all | toJson -}}
{{- end }}

{{/* A policy's keys as its ConfigMap has them, for example ingress.burst.max; the argument is the policy. */}}
{{- define "podpace.policyData" -}}
{{- $p := . -}}
{{- with $p.namespaceSelector }}
namespace-selector: {{ . | quote }}
{{- end }}
{{- with $p.priority }}
priority: {{ int64 . | quote }}
{{- end }}
{{- range $direction := list "ingress" "egress" }}
{{- range $value, $key := dict "default" "default" "min" "min" "max" "max" "burstMax" "burst.max"
    "totalPerNode" "total-per-node" "requestDefault" "request.default" "requestMin" "request.min"
    "requestMax" "request.max" }}
{{- with get (get $p $direction | default dict) $value }}
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
{{- if not (kindIs "invalid" $p.schedule) }}
schedule: {{ $p.schedule | quote }}
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

{{/* The cluster's policies of the values by name, as JSON. */}}
{{- define "podpace.allPolicies" -}}
{{- $all := deepCopy .Values.policies -}}
{{- if .Values.policy.create }}{{ $_ := set $all "podpace-policy" .Values.policy }}{{ end -}}
{{- toJson $all -}}
{{- end }}

{{/* The same as manifests. */}}
{{- define "podpace.policies" -}}
{{- range $name, $policy := include "podpace.allPolicies" . | fromJson }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name | quote }}
  namespace: {{ include "podpace.namespace" $ | quote }}
  labels:
    {{- include "podpace.labels" (dict "root" $ "component" "policy") | nindent 4 }}
    podpace.io/policy: "true"
  annotations:
    # Uninstalling, or leaving it out of the values, does not lift its bounds.
    helm.sh/resource-policy: keep
data:
  {{- include "podpace.policyData" $policy | trim | default "{}" | nindent 2 }}
{{- end }}
{{- end }}

{{/* Namespaces that are always left out of admission and audit, and those of the values; as JSON. */}}
{{- define "podpace.exemptNamespaces" -}}
{{- if eq (include "podpace.namespace" $) "default" }}
{{- fail "the release namespace is exempt from admission, and that must not be default; install with --namespace podpace-system --create-namespace" }}
{{- end -}}
{{- $more := .Values.webhook.exemptNamespaces -}}
{{- if eq .Values.webhook.failurePolicy "Fail" }}
{{- $more = concat .Values.webhook.startupNamespaces $more -}}
{{- end -}}
{{- uniq (concat (list "kube-system" "kube-node-lease" (include "podpace.namespace" $)) $more) | toJson -}}
{{- end }}

{{/* Security context of the containers that need nothing of the node. The user is the image's: a
platform that gives each namespace its own (OpenShift) can put it in. */}}
{{- define "podpace.restricted" -}}
{{- $ours := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "runAsNonRoot" true "capabilities" (dict "drop" (list "ALL")) "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{ mergeOverwrite $ours (deepCopy .Values.webhook.containerSecurityContext) | toYaml }}
{{- end }}

{{/* What the pods of hooks have in common, containers left out; the argument is their component. */}}
{{- define "podpace.hookPod" -}}
{{- $h := .root.Values.hooks -}}
metadata:
  labels:
    {{- include "podpace.podLabels" (dict "root" .root "component" .component "more" $h.podLabels) | nindent 4 }}
  {{- with $h.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "podpace.hookPodSpec" -}}
{{- $root := .root -}}
{{- with include "podpace.pullSecrets" $root | fromJsonArray }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.hooks.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with merge (dict) $root.Values.webhook.nodeSelector ($root.Values.global.nodeSelector | default dict) }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.webhook.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.hooks.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.webhook.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The Secret with the webhook's certificate, where it comes from elsewhere. */}}
{{- define "podpace.certificateSecret" -}}
{{- if eq .Values.webhook.certificates.mode "certManager" -}}
{{ include "podpace.fullname" $ }}-webhook-tls
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

{{/* CEL: whether the key k is one that people write or we write, of labels or annotations. */}}
{{- define "podpace.cel.inputKey" -}}
(k.startsWith('podpace.io/') || k in ['kubernetes.io/ingress-bandwidth',
          'kubernetes.io/egress-bandwidth', 'kubernetes.io/config.mirror'])
{{- end }}

{{/* CEL: the labels that the webhook writes. contract/names.py has them, too; a test compares. */}}
{{- define "podpace.cel.labelKeys" -}}
['podpace.io/limited', 'podpace.io/source', 'podpace.io/mode',
          'podpace.io/ingress-bits-per-second', 'podpace.io/egress-bits-per-second',
          'podpace.io/ingress-burst-bits', 'podpace.io/egress-burst-bits',
          'podpace.io/ingress-request-bits-per-second', 'podpace.io/egress-request-bits-per-second',
          'podpace.io/ingress-total-bits-per-second', 'podpace.io/egress-total-bits-per-second',
          'podpace.io/ingress-booked-bits-per-second', 'podpace.io/egress-booked-bits-per-second',
          'podpace.io/booked-by-webhook']
{{- end }}

{{/* CEL: the annotations that ask for limits. */}}
{{- define "podpace.cel.annotationKeys" -}}
['podpace.io/ingress-bandwidth', 'podpace.io/egress-bandwidth',
          'podpace.io/ingress-burst', 'podpace.io/egress-burst',
          'podpace.io/ingress-request', 'podpace.io/egress-request',
          'kubernetes.io/ingress-bandwidth', 'kubernetes.io/egress-bandwidth']
{{- end }}

{{/* CEL: our accounts that label pods. */}}
{{- define "podpace.cel.labellers" -}}
['{{ include "podpace.user" (dict "root" $ "component" "webhook") }}',
          '{{ include "podpace.user" (dict "root" $ "component" "uninstall") }}']
{{- end }}

{{/* A label selector in kubectl's text form; contract/selectors.py reads it, and a test compares. */}}
{{- define "podpace.selectorPattern" -}}
{{- $key := "([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?" -}}
{{- $value := "([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?" -}}
{{- $set := printf "[(][ ]*%s[ ]*(,[ ]*%s[ ]*)*[)]" $value $value -}}
{{- $one := printf "(![ ]*%s|%s([ ]*(==?|!=)[ ]*%s|[ ]+(in|notin)[ ]*%s)?)" $key $key $value $set -}}
{{- printf "^[ \\n]*(%s([ ]*,[ ]*%s)*)?[ \\n]*$" $one $one -}}
{{- end }}

{{/* Annotations of what exists while the policies are judged; the argument is the weight. */}}
{{- define "podpace.reviewHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
