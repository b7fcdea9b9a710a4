import type { Parameters } from './parameters.js';
import type { Permissions } from './permissions.js';
import type { QueueName } from './queues.js';

export type FunctionName =
  | 'templates-api'
  | 'deployments-api'
  | 'executions-api'
  | 'jobs-api'
  | 'clusters-api'
  | 'plan-dag'
  | 'execute-step'
  | 'deploy-helm'
  | 'handle-events'
  | 'track-deployments'
  | 'sync-deployments';

export interface FunctionRow {
  readonly name: FunctionName;
  /** What its logical ids begin with. */
  readonly id: string;
  readonly description: string;
  /** MiB */
  readonly memory: number;
  /** Seconds */
  readonly timeout: number;
  /** Most invocations at once: a burst of one function cannot starve the others, or the account. */
  readonly concurrency: number;
  /** Routes: name, path, and whether everybody may call it. */
  readonly routes?: readonly { readonly path: string; readonly open?: boolean }[];
  readonly permissions: Permissions;
}

/** What everything under one path of the API, and the path itself, is. */
function resource(...names: string[]): { readonly path: string }[] {
  return names.flatMap((name) => [{ path: `/api/v1/${name}` }, { path: `/api/v1/${name}/{proxy+}` }]);
}

const everyQueue: readonly QueueName[] = [
  'plan-dag',
  'execute-step',
  'deploy-helm',
  'budpipelineEvents',
  'budusecasesEvents',
];

/** The functions. */
export function table(parameters: Parameters): FunctionRow[] {
  return [
    {
      name: 'templates-api',
      id: 'TemplatesApi',
      description: 'Answers /templates and /catalog, and what everybody may read.',
      memory: 512,
      timeout: 29,
      concurrency: parameters.apiConcurrency.valueAsNumber,
      routes: [
        ...resource('templates'),
        { path: '/api/v1/catalog' },
        { path: '/api/v1/openapi.json', open: true },
        { path: '/healthz', open: true },
      ],
      permissions: {
        indexes: ['list'],
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/idempotency/*'] },
      },
    },
    {
      name: 'deployments-api',
      id: 'DeploymentsApi',
      description: 'Answers /deployments.',
      memory: 512,
      timeout: 29,
      concurrency: parameters.apiConcurrency.valueAsNumber,
      routes: [...resource('deployments')],
      permissions: {
        indexes: ['list'],
        sends: everyQueue,
        secrets: {
          actions: [
            'secretsmanager:CreateSecret',
            'secretsmanager:DeleteSecret',
            'secretsmanager:GetSecretValue',
            'secretsmanager:PutSecretValue',
            'secretsmanager:RestoreSecret',
          ],
          names: ['*/deployment/*'],
        },
        blobs: {
          actions: ['s3:DeleteObject', 's3:GetObject', 's3:PutObject'],
          paths: ['*/deployments/*', '*/executions/*', '*/idempotency/*'],
        },
        publishes: true,
      },
    },
    {
      name: 'executions-api',
      id: 'ExecutionsApi',
      description: 'Answers /executions, /actions and /dead-letters.',
      memory: 512,
      timeout: 29,
      concurrency: parameters.apiConcurrency.valueAsNumber,
      routes: [...resource('executions', 'dead-letters'), { path: '/api/v1/actions' }],
      permissions: {
        indexes: ['list'],
        sends: everyQueue,
        deadLetters: [
          'sqs:ChangeMessageVisibility',
          'sqs:DeleteMessage',
          'sqs:GetQueueAttributes',
          'sqs:ReceiveMessage',
        ],
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/executions/*', '*/idempotency/*'] },
        publishes: true,
      },
    },
    {
      name: 'jobs-api',
      id: 'JobsApi',
      description: 'Answers /jobs.',
      memory: 512,
      timeout: 29,
      concurrency: parameters.apiConcurrency.valueAsNumber,
      routes: [...resource('jobs')],
      permissions: {
        indexes: ['list'],
        sends: ['deploy-helm', 'budpipelineEvents'],
        // What pods print is masked where it is read.
        secrets: {
          actions: ['secretsmanager:GetSecretValue'],
          names: ['*/cluster/*', '*/deployment/*', '*/expressions/*'],
        },
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/idempotency/*', 'renders/*'] },
        connects: true,
      },
    },
    {
      name: 'clusters-api',
      id: 'ClustersApi',
      description: 'Answers /clusters.',
      memory: 512,
      timeout: 29,
      concurrency: parameters.apiConcurrency.valueAsNumber,
      routes: [...resource('clusters')],
      permissions: {
        indexes: ['list'],
        sends: ['execute-step'],
        secrets: {
          actions: [
            'secretsmanager:CreateSecret',
            'secretsmanager:DeleteSecret',
            'secretsmanager:GetSecretValue',
            'secretsmanager:PutSecretValue',
            'secretsmanager:RestoreSecret',
          ],
          names: ['*/cluster/*'],
        },
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/idempotency/*', 'renders/*'] },
        connects: true,
      },
    },
    {
      name: 'plan-dag',
      id: 'PlanDag',
      description: 'Plans what a deployment wants.',
      memory: 512,
      timeout: 180,
      concurrency: parameters.planDagConcurrency.valueAsNumber,
      permissions: {
        sends: everyQueue,
        consumes: 'plan-dag',
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/executions/*'] },
        forgets: true,
        publishes: true,
      },
    },
    {
      name: 'execute-step',
      id: 'ExecuteStep',
      description: 'Runs the actions of steps, and goes on with what became ready.',
      memory: 512,
      timeout: 180,
      concurrency: parameters.executeStepConcurrency.valueAsNumber,
      permissions: {
        sends: ['execute-step', 'deploy-helm', 'budpipelineEvents', 'budusecasesEvents'],
        consumes: 'execute-step',
        secrets: {
          actions: ['secretsmanager:GetSecretValue'],
          names: ['*/cluster/*', '*/deployment/*', '*/expressions/*'],
        },
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/executions/*', 'renders/*'] },
        forgets: true,
        publishes: true,
        connects: true,
      },
    },
    {
      name: 'deploy-helm',
      id: 'DeployHelm',
      description: 'Goes on with one job on a cluster, phase after phase.',
      memory: 3008, // The most that an account has unless AWS has raised it.
      timeout: 300,
      concurrency: parameters.deployHelmConcurrency.valueAsNumber,
      permissions: {
        sends: ['deploy-helm', 'budpipelineEvents'],
        consumes: 'deploy-helm',
        secrets: {
          actions: ['secretsmanager:GetSecretValue'],
          names: ['*/cluster/*', '*/deployment/*', '*/expressions/*', '*/registries/*'],
        },
        blobs: {
          actions: ['s3:DeleteObject', 's3:GetObject', 's3:PutObject'],
          paths: ['*/charts/*', '*/deployments/*', '*/executions/*', 'renders/*'],
        },
        keepsItems: true,
        connects: true,
      },
    },
    {
      name: 'handle-events',
      id: 'HandleEvents',
      description: 'Ends steps on the events of their jobs.',
      memory: 512,
      timeout: 180,
      concurrency: parameters.handleEventsConcurrency.valueAsNumber,
      permissions: {
        sends: ['execute-step', 'deploy-helm', 'budpipelineEvents', 'budusecasesEvents'],
        consumes: 'budpipelineEvents',
        secrets: {
          actions: ['secretsmanager:GetSecretValue'],
          names: ['*/cluster/*', '*/deployment/*', '*/expressions/*'],
        },
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/executions/*', 'renders/*'] },
        forgets: true,
        publishes: true,
        connects: true,
      },
    },
    {
      name: 'track-deployments',
      id: 'TrackDeployments',
      description: 'Turns progress into the status of deployments.',
      memory: 512,
      timeout: 180,
      concurrency: parameters.trackDeploymentsConcurrency.valueAsNumber,
      permissions: {
        sends: everyQueue,
        consumes: 'budusecasesEvents',
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/executions/*'] },
        forgets: true,
        publishes: true,
      },
    },
    {
      name: 'sync-deployments',
      id: 'SyncDeployments',
      description: 'Looks every minute at what is due, expired or lost.',
      memory: 512,
      timeout: 120,
      concurrency: 1, // Two sweeps at once would only do the same work twice.
      permissions: {
        indexes: ['due'],
        sends: everyQueue,
        deadLetters: ['sqs:ChangeMessageVisibility', 'sqs:GetQueueAttributes', 'sqs:ReceiveMessage'],
        // Of a cluster whose registration was cut short.
        secrets: { actions: ['secretsmanager:DeleteSecret'], names: ['*/cluster/*'] },
        // A plan is written where its message died.
        blobs: { actions: ['s3:GetObject', 's3:PutObject'], paths: ['*/deployments/*', '*/executions/*'] },
        forgets: true,
        publishes: true,
      },
    },
  ];
}
