{{- define "model-server.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/*
Name of every object. At most 52 characters, so that the suffixes of pods and Services still fit; a
longer one is cut and told apart by a hash. A Service's name cannot start with a digit, a release's can.
*/}}
{{- define "model-server.fullname" -}}
{{- $name := include "model-server.name" . -}}
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
{{- define "model-server.selectorLabels" -}}
app.kubernetes.io/name: {{ include "model-server.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: model-server
{{- end }}

{{/* Labels of everything but the test pod, whose component must not be selected by the Service. */}}
{{- define "model-server.labels" -}}
{{ include "model-server.selectorLabels" . }}
{{ include "model-server.commonLabels" . }}
{{- end }}

{{- define "model-server.commonLabels" -}}
app.kubernetes.io/version: {{ include "model-server.version" . | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "model-server.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "model-server.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* An image as the container names it: a digest wins over the tag. Takes {repository, tag, digest}. */}}
{{- define "model-server.imageReference" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end }}

{{/* Pod security, as the `restricted` level wants it. */}}
{{- define "model-server.podSecurityContext" -}}
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
{{- define "model-server.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.securityContext.readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where and how the pod is scheduled. */}}
{{- define "model-server.scheduling" -}}
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

{{- define "model-server.version" -}}
{{- .Values.image.tag -}}
{{- end }}

{{- define "model-server.servedModelName" -}}
{{- .Values.servedModelName | default .Values.model -}}
{{- end }}

{{- define "model-server.cacheClaimName" -}}
{{- .Values.cache.existingClaim | default (printf "%s-cache" (include "model-server.fullname" .)) -}}
{{- end }}

{{/* Refuses values that contradict each other, which a schema cannot say. */}}
{{- define "model-server.validate" -}}
{{- if and .Values.cache.existingClaim (ne .Values.cache.type "persistentVolumeClaim") -}}
{{- fail (printf "cache.existingClaim is %q but cache.type is %q: set cache.type to persistentVolumeClaim, or leave cache.existingClaim empty" .Values.cache.existingClaim .Values.cache.type) -}}
{{- end -}}
{{- if and (eq .Values.cache.type "persistentVolumeClaim") (gt (int .Values.replicas) 1) (ne .Values.cache.accessMode "ReadWriteMany") -}}
{{- fail (printf "replicas is %d but cache.accessMode is %s: pods on several nodes share the claim only with ReadWriteMany; use it, or cache.type emptyDir" (int .Values.replicas) .Values.cache.accessMode) -}}
{{- end -}}
{{- $own := dict "--model" "model" "--served-model-name" "servedModelName" "--port" "port" "--tensor-parallel-size" "gpu.count" "-tp" "gpu.count" -}}
{{- range $index, $argument := .Values.extraArgs -}}
{{- $flag := splitList "=" $argument | first -}}
{{- if hasKey $own $flag -}}
{{- fail (printf "extraArgs[%d] is %q: set %s instead" $index $argument (get $own $flag)) -}}
{{- end -}}
{{- end -}}
{{- range $kind, $amounts := .Values.resources -}}
{{- if and (kindIs "map" $amounts) (hasKey $amounts "nvidia.com/gpu") -}}
{{- fail (printf "resources.%s has nvidia.com/gpu: set gpu.count instead" $kind) -}}
{{- end -}}
{{- end -}}
{{- end }}
