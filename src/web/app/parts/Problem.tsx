// What went wrong, and what next.
import { explain } from "../core/explain.ts";
import { toast } from "../core/state.ts";
import { t } from "../i18n/index.ts";
import { Icon } from "./Icon.tsx";

export interface Failure {
  reason: unknown;
}

export function Problem({ of, onRetry }: { of: Failure | null; onRetry?: (() => void) | undefined }) {
  if (!of) return null;
  const { what, next, detail } = explain(of.reason);
  return (
    <div class="problem" role="alert">
      <Icon name="alert" />
      <div>
        <strong>{what}</strong> {next}
        {detail && <p class="detail">{detail}</p>}
        {onRetry && (
          <button type="button" class="small" onClick={onRetry}>
            {t().retry}
          </button>
        )}
      </div>
    </div>
  );
}

/** Does something whose failure is best said in passing. */
export async function attempt(act: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await act();
    if (done) toast(done);
    return true;
  } catch (error) {
    const { what, next, detail } = explain(error);
    toast(`${what} ${next}`, detail, true);
    return false;
  }
}
