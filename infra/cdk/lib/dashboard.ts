import { Aws, Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import { Construct } from 'constructs';

import type { Api } from './api.js';
import type { Functions } from './functions.js';
import type { Queues } from './queues.js';
import type { State } from './state.js';

export interface DashboardProps {
  readonly state: State;
  readonly queues: Queues;
  readonly functions: Functions;
  readonly api: Api;
}

/** What an operator looks at first. */
export class Dashboard extends Construct {
  constructor(scope: Construct, { state, queues, functions, api }: DashboardProps) {
    super(scope, 'dashboard');
    const ofQueues = (metric: string): string[][] =>
      queues.all.map(({ queue }) => ['AWS/SQS', metric, 'QueueName', queue.queueName]);
    const ofFunctions = (metric: string): string[][] =>
      functions.all.map((row) => ['AWS/Lambda', metric, 'FunctionName', row.function.functionName]);
    const ofApi = (metric: string): string[] => ['AWS/ApiGateway', metric, 'ApiId', api.api.apiId];
    const ofTable = (metric: string): string[] => [
      'AWS/DynamoDB',
      metric,
      'TableName',
      state.table.tableName,
    ];
    const deadLetters = queues.all.map((pair) => [
      'AWS/SQS',
      'ApproximateNumberOfMessagesVisible',
      'QueueName',
      pair.deadLetters.queueName,
    ]);
    const widgets = [
      row(0, 12, [
        ['Age of the oldest message (s)', 'Maximum', ofQueues('ApproximateAgeOfOldestMessage')],
        ['Dead letters', 'Maximum', deadLetters],
      ]),
      row(6, 12, [
        ['Messages waiting', 'Maximum', ofQueues('ApproximateNumberOfMessagesVisible')],
        ['Concurrent invocations', 'Maximum', ofFunctions('ConcurrentExecutions')],
      ]),
      row(12, 12, [
        ['Errors', 'Sum', ofFunctions('Errors')],
        ['Duration, 99th percentile (ms)', 'p99', ofFunctions('Duration')],
      ]),
      row(18, 8, [
        ['API calls', 'Sum', ['Count', '4xx', '5xx'].map(ofApi)],
        ['API latency, 99th percentile (ms)', 'p99', ['Latency', 'IntegrationLatency'].map(ofApi)],
        [
          'Table capacity and throttles',
          'Sum',
          [
            'ConsumedReadCapacityUnits',
            'ConsumedWriteCapacityUnits',
            'ReadThrottleEvents',
            'WriteThrottleEvents',
          ].map(ofTable),
        ],
      ]),
    ].flat();
    new cloudwatch.CfnDashboard(this, 'Dashboard', {
      dashboardName: Aws.STACK_NAME,
      dashboardBody: Stack.of(this).toJsonString({ widgets }),
    });
  }
}

type Graph = readonly [title: string, statistic: string, metrics: string[][]];

function row(y: number, width: number, graphs: readonly Graph[]): Record<string, unknown>[] {
  return graphs.map(([title, stat, metrics], index) => ({
    type: 'metric',
    x: index * width,
    y,
    width,
    height: 6,
    properties: { title, region: Aws.REGION, view: 'timeSeries', stat, period: 60, metrics },
  }));
}
