{{- define "agent-runtime.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/*
Name of every object. At most 52 characters, so that the suffixes of pods and Services still fit; a
longer one is cut and told apart by a hash. A Service's name cannot start with a digit, a release's can.
*/}}
{{- define "agent-runtime.fullname" -}}
{{- $name := include "agent-runtime.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- if regexMatch "^[0-9]" $full -}}
{{- $full = printf "r-%s" $full -}}
{{- end -}}
{{- if gt (len $full) 52 -}}
{{- $full = printf "%s-%s" ($full | trunc 43 | trimSuffix "-") ($full | sha256sum | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end }}

{{/* What Services and workloads select by; never changes over a release's life. */}}
{{- define "agent-runtime.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agent-runtime.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent-runtime
{{- end }}

{{/* Labels of everything but the test pod, whose component must not be selected by the Service. */}}
{{- define "agent-runtime.labels" -}}
{{ include "agent-runtime.selectorLabels" . }}
{{ include "agent-runtime.commonLabels" . }}
{{- end }}

{{- define "agent-runtime.commonLabels" -}}
app.kubernetes.io/version: {{ include "agent-runtime.version" . | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "agent-runtime.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "agent-runtime.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* An image as the container names it: a digest wins over the tag. Takes {repository, tag, digest}. */}}
{{- define "agent-runtime.imageReference" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end }}

{{/* Pod security, as the `restricted` level wants it. */}}
{{- define "agent-runtime.podSecurityContext" -}}
runAsNonRoot: true
{{- if hasKey .Values.securityContext "runAsUser" }}
runAsUser: {{ .Values.securityContext.runAsUser | int64 }}
{{- end }}
{{- if hasKey .Values.securityContext "runAsGroup" }}
runAsGroup: {{ .Values.securityContext.runAsGroup | int64 }}
{{- end }}
{{- if hasKey .Values.securityContext "fsGroup" }}
fsGroup: {{ .Values.securityContext.fsGroup | int64 }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Container security, as the `restricted` level wants it. */}}
{{- define "agent-runtime.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.securityContext.readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where and how the pod is scheduled. */}}
{{- define "agent-runtime.scheduling" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "agent-runtime.version" -}}
{{- .Values.image.tag -}}
{{- end }}

{{/* Refuses values that contradict each other, which a schema cannot say. */}}
{{- define "agent-runtime.validate" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled is true but ingress.host is empty: an Ingress without a host would take all of the cluster's traffic; set ingress.host" -}}
{{- end -}}
{{- if and (not .Values.ingress.enabled) (or .Values.ingress.host .Values.ingress.tlsSecretName) -}}
{{- fail "ingress.host or ingress.tlsSecretName is set but ingress.enabled is false: enable the Ingress, or leave both empty" -}}
{{- end -}}
{{- $own := dict "PORT" "port" "LLM_ENDPOINT" "llm_endpoint" "VECTORDB_ENDPOINT" "vectordb_endpoint" "LOG_LEVEL" "log_level" -}}
{{- range $index, $variable := .Values.extraEnv -}}
{{- if hasKey $own $variable.name -}}
{{- fail (printf "extraEnv[%d] is %s: set %s instead" $index $variable.name (get $own $variable.name)) -}}
{{- end -}}
{{- end -}}
{{- end }}
