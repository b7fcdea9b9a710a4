import { RemovalPolicy } from 'aws-cdk-lib';
import type * as kms from 'aws-cdk-lib/aws-kms';
import * as logs from 'aws-cdk-lib/aws-logs';
import type { Construct } from 'constructs';

import type { Parameters } from './parameters.js';

/** An encrypted log group that is kept for as long as the environment says. */
export function logGroup(
  scope: Construct,
  id: string,
  props: { readonly name: string; readonly key: kms.IKey; readonly parameters: Parameters },
): logs.LogGroup {
  const made = new logs.LogGroup(scope, id, {
    logGroupName: props.name,
    encryptionKey: props.key,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  // A parameter is none of the periods that the construct takes; its allowed values are those periods.
  (made.node.defaultChild as logs.CfnLogGroup).retentionInDays =
    props.parameters.logRetentionDays.valueAsNumber;
  return made;
}
